//! Whatever lines a lane of output holds, merging leaves out nothing and makes messages of messages.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runcast_protocol::merge::merge;
use runcast_protocol::{Batch, Message, MessageHead};

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) else { return };
    let (mut next, mut alone) = (batch.first(), batch.entries.iter());
    for merged in merge(&batch.lane, &batch.entries) {
        assert_eq!(merged.first, next);
        let entry = &merged.entry;
        assert_eq!(MessageHead::parse(&entry.line).expect("a message").sequence, entry.sequence);
        let within: Vec<_> = alone.by_ref().take_while(|one| one.sequence < entry.sequence).collect();
        if merged.is_several() {
            let texts: Option<String> = batch
                .entries
                .iter()
                .filter(|one| one.sequence >= merged.first && one.sequence <= entry.sequence)
                .map(runcast_protocol::Entry::text)
                .collect();
            // Halves of surrogate pairs are no text by themselves.
            if let Some(texts) = texts {
                assert_eq!(entry.text().as_ref(), Some(&texts));
                if let Ok(message) = Message::parse(&entry.line) {
                    assert_eq!(message.first_sequence(), merged.first);
                }
            }
        } else {
            assert!(within.is_empty() && batch.entries.contains(entry));
        }
        next = entry.sequence.next();
    }
    assert_eq!(next, batch.last().next());
});
