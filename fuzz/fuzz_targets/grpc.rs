//! Requests of gRPC: what is no message is refused, and what is checked and taken means what it said.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use runcast_control_plane::check;
use runcast_protocol::grpc::control::{CreateRunRequest, GetCommandRequest, SendCommandRequest};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = SendCommandRequest::decode(bytes) {
        if let Ok(run) = check::run_name("parent", &request.parent) {
            assert_eq!(format!("runs/{run}"), request.parent);
        }
        let _ = check::order(request, Timestamp::UNIX_EPOCH);
    }
    if let Ok(request) = CreateRunRequest::decode(bytes) {
        if let Ok(variations) = check::variations(&request.variation_ids) {
            assert_eq!(variations.len(), request.variation_ids.len());
        }
        let _ = check::request_id(request.request_id);
    }
    if let Ok(request) = GetCommandRequest::decode(bytes)
        && let Ok((run, command)) = check::command_name(&request.name)
    {
        assert_eq!(format!("runs/{run}/commands/{command}"), request.name);
    }
});
