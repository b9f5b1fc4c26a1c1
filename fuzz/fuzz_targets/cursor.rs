//! What is read as a cursor is written as text that reads the same and can be an event's id.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_protocol::Cursor;

fuzz_target!(|text: &str| {
    let Ok(cursor) = text.parse::<Cursor>() else { return };
    let written = cursor.to_string();
    assert!(!written.is_empty() && written.bytes().all(|byte| byte.is_ascii_graphic()));
    let read: Cursor = written.parse().expect("it was a cursor");
    assert_eq!(read, cursor);
    assert_eq!(read.to_string(), written);
    assert_eq!(cursor.lanes().collect::<Cursor>(), cursor);
});
