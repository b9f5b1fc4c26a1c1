//! How long ago something was, as people say it.

use jiff::Timestamp;

pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    match now.as_second() - time.as_second() {
        ..2 => "now".to_owned(),
        seconds @ 2..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}
