//! A line of an agent that is taken for a log record stays what it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_publisher_sidecar::record;

fuzz_target!(|line: &[u8]| {
    if let Some(json) = record::parse(line) {
        assert!(json.is_object());
        let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        // serde_json cannot hold all JSON.
        if !value.is_null() {
            assert_eq!(serde_json::from_str::<serde_json::Value>(json.as_str()).expect("JSON"), value);
        }
    }
});
