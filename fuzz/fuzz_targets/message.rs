//! What is read as a message is written as one line that reads the same, and its head agrees with it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_protocol::{Message, MessageHead};

fuzz_target!(|bytes: &[u8]| {
    let head = MessageHead::parse(bytes);
    let Ok(message) = Message::parse(bytes) else { return };
    let line = message.to_line();
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    assert_eq!(Message::parse(&line).expect("it was a message"), message);
    for head in [head, MessageHead::parse(&line)] {
        let head = head.expect("a message has a head");
        assert_eq!((head.sequence, head.kind), (message.sequence, message.kind));
        assert_eq!(head.variation(), message.variation_id.as_str());
        assert_eq!(head.writer(), message.writer.as_str());
    }
});
