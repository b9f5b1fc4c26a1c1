//! Claims that are read are written as the same, and a ticket shows nothing that its token does not. The first line is
//! the claims, the second what is asked of the ticket.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_auth::{Grant, Operation, TicketRequest};
use runcast_protocol::{Channel, RunId};

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let Some(Ok(token)) = lines.next().map(Grant::parse) else { return };
    assert_eq!(Grant::parse(&token.claims()).as_ref(), Ok(&token));
    assert!(token.subject().is_none_or(|subject| !subject.contains(char::is_control)));

    let request = lines.next().and_then(|request| serde_json::from_slice::<TicketRequest>(request).ok());
    let request = request.unwrap_or_default();
    let Ok(ticket) = token.narrowed(&request) else { return };
    assert_eq!((ticket.id(), ticket.expires()), (token.id(), token.expires()));
    assert!(ticket.allows(Operation::Manage).is_err() && ticket.allows(Operation::Revoke).is_err());

    // Names around whatever the patterns say.
    let claims: serde_json::Value = serde_json::from_slice(&token.claims()).expect("claims are JSON");
    let own = claims["runs"].as_array().into_iter().flatten().filter_map(|run| run.as_str());
    let asked = request.runs.iter().flatten().map(String::as_str);
    for pattern in own.chain(asked) {
        let begin = pattern.trim_end_matches('*');
        for name in [begin.to_owned(), format!("{begin}x"), begin.chars().skip(1).collect()] {
            let Ok(run) = RunId::new(&name) else { continue };
            assert!(!ticket.covers(&run) || token.covers(&run), "{name}");
            assert!(ticket.may(Operation::View, &run).is_err() || token.may(Operation::View, &run).is_ok());
        }
    }
    for channel in Channel::ALL {
        let query = format!("channels={channel}");
        assert!(ticket.narrow(&query).is_err() || token.narrow(&query).is_ok(), "{channel}");
    }
    // What is left of a query that says nothing is allowed.
    if let Ok(query) = ticket.narrow("limit=1") {
        assert_eq!(ticket.narrow(&query).as_ref(), Ok(&query));
        assert!(token.narrow(&query).is_ok());
    }
});
