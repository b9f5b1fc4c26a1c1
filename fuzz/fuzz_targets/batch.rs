//! What is read as a batch is numbered without a hole and survives being written again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runcast_protocol::{Batch, BatchWriter, MessageHead};

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) else { return };
    for (entry, number) in batch.entries.iter().zip(batch.first().get()..) {
        assert!(number > 0 && entry.sequence.get() == number);
        assert!(!entry.line.contains(&b'\n'));
        let head = MessageHead::parse(&entry.line).expect("an entry is a message");
        assert_eq!(head.kind.channel(), batch.lane.channel);
        assert_eq!(head.writer(), batch.lane.writer.as_str());
        assert_eq!(head.variation(), entry.variation.as_str());
    }
    for compress_above in [0, usize::MAX] {
        let mut writer = BatchWriter::default();
        for entry in &batch.entries {
            writer.push(&entry.line);
        }
        assert_eq!(Batch::parse(writer.finish(compress_above)).expect("it was a batch"), batch);
    }
});
