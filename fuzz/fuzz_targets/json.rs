//! A JSON value that is carried goes on one line and means what it meant.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_protocol::Json;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let value = serde_json::from_str::<Value>(text);
    let Ok(json) = Json::parse(text) else {
        assert!(value.is_err(), "a value was refused");
        return;
    };
    assert!(!json.as_str().contains(['\n', '\r']));
    assert!(json.as_str().len() <= text.len());
    assert_eq!(Json::parse(json.as_str()).expect("it was JSON"), json);
    // serde_json cannot hold all JSON: numbers beyond a double, lone surrogates, great depth.
    match value {
        Ok(value) => {
            assert_eq!(json.is_string(), value.is_string());
            assert_eq!(json.is_object(), value.is_object());
            assert_eq!(json.to_text().as_deref(), value.as_str());
            assert_eq!(serde_json::from_str::<Value>(json.as_str()).expect("it was a value"), value);
        }
        Err(_) => assert!(serde_json::from_str::<Value>(json.as_str()).is_err()),
    }
});
