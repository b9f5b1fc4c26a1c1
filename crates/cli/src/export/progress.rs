//! How far an export is, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that goes away with this value; on anything but a terminal, nothing.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts messages, of so many if that is known.
    pub(crate) fn messages(total: Option<u64>) -> Self {
        Self::new(
            total,
            "{bar:30} {human_pos} of {human_len} messages, {per_sec}, {eta}",
            "{spinner} {human_pos} messages, {per_sec}",
        )
    }

    /// Counts bytes, of so many if that is known.
    pub(crate) fn bytes(total: Option<u64>) -> Self {
        Self::new(
            total,
            "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta}",
            "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
        )
    }

    fn new(total: Option<u64>, with_total: &str, without: &str) -> Self {
        let total = total.filter(|total| *total > 0);
        let template = if total.is_some() { with_total } else { without };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_style(style.progress_chars("━━╌"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So much more is written.
    pub(crate) fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// It begins anew.
    pub(crate) fn restart(&self) {
        self.0.set_position(0);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
