//! The incremental parser, cut anywhere, sees what a plain reading of the standard sees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_protocol::sse::{Event, Parser};

/// WHATWG HTML §9.2.6 to the letter, on the whole stream at once.
fn as_the_standard_says(stream: &[u8]) -> (Vec<Event>, String) {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut last_id) = (Vec::new(), String::new());
    let (mut data, mut event, mut id) = (String::new(), String::new(), String::new());
    // What follows the last line end is not a line yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end + 1]);
    for line in whole.split_terminator('\n') {
        if line.is_empty() {
            last_id.clone_from(&id);
            let event = std::mem::take(&mut event);
            if data.pop().is_some() {
                events.push(Event { id: last_id.clone(), event, data: std::mem::take(&mut data) });
            }
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(0) => continue,
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(' ').unwrap_or(value))
            }
            None => (line, ""),
        };
        match field {
            "event" => event = value.to_owned(),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    (events, last_id)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, stream)) = bytes.split_first() else { return };
    let (events, last_id) = as_the_standard_says(stream);
    for step in [usize::MAX, usize::from(step).max(1)] {
        let mut parser = Parser::default();
        let seen: Vec<_> = stream.chunks(step).flat_map(|chunk| parser.push(chunk)).collect();
        assert_eq!(seen, events);
        assert_eq!(parser.last_event_id(), last_id);
    }
});
