//! Panics become log lines like any other, so that a collector of JSON lines gets them whole.

use std::{backtrace::Backtrace, panic};

/// From now on a panic is logged as an error instead of printed.
pub(crate) fn log() {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let reason =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(not text)");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        // Empty unless RUST_BACKTRACE is set.
        let backtrace = Backtrace::capture();
        tracing::error!(reason, location, thread, %backtrace, "panicked");
    }));
}
