//! Panics become log lines like any other, so that a collector of JSON lines gets them whole.

use std::{backtrace::Backtrace, panic};

/// From now on a panic is logged as an error instead of printed.
pub(crate) fn log() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(not text)");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        // Empty unless RUST_BACKTRACE is set.
        let backtrace = Backtrace::capture();
        tracing::error!(message, location, thread, %backtrace, "panicked");
    }));
}
