//! What callers get wrong: each gets a clear code, and nothing is harmed.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::time::Duration;

use prost_types::{Struct, Timestamp, Value, value::Kind};
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::send_command_request::Expiration;
use runcast_testkit::{Control, Redis};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use support::{Client, order, pause};

const LONG: Duration = Duration::from_secs(60);

fn field(status: &Status) -> String {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn text(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_fields_are_named() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let patch = Struct { fields: [("k".to_owned(), text("x".repeat(300 << 10)))].into() };
    let mut deep = text("x".into());
    for _ in 0..90 {
        deep = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![deep] })) };
    }
    let past = Some(Expiration::ExpireTime(Timestamp { seconds: 1, nanos: 0 }));
    let far = Some(Expiration::Ttl(prost_types::Duration { seconds: 1 << 40, nanos: 0 }));
    let good = pause("r", LONG);
    let custom = |name: &str, payload| {
        order("r", Action::Custom(proto::CustomAction { action_id: name.into(), payload }), LONG)
    };
    let stop = proto::StopAction { grace_period: Some(prost_types::Duration { seconds: -1, nanos: 0 }) };
    for (request, code, named) in [
        (pause("nobody", LONG), Code::NotFound, ""),
        (pause("a b", LONG), Code::InvalidArgument, "parent"),
        (proto::SendCommandRequest { parent: "r".into(), ..good.clone() }, Code::InvalidArgument, "parent"),
        (proto::SendCommandRequest { variation_ids: vec!["w".into()], ..good.clone() }, Code::NotFound, ""),
        (
            proto::SendCommandRequest { variation_ids: vec!["v".into(), "*".into()], ..good.clone() },
            Code::InvalidArgument,
            "variation_ids[1]",
        ),
        (
            proto::SendCommandRequest { variation_ids: vec!["v".into(), "v".into()], ..good.clone() },
            Code::InvalidArgument,
            "variation_ids[1]",
        ),
        (
            proto::SendCommandRequest { command: None, ..good.clone() },
            Code::InvalidArgument,
            "command.action",
        ),
        (
            proto::SendCommandRequest { expiration: past, ..good.clone() },
            Code::InvalidArgument,
            "expire_time",
        ),
        (proto::SendCommandRequest { expiration: far, ..good.clone() }, Code::InvalidArgument, "ttl"),
        (
            proto::SendCommandRequest { request_id: "x".repeat(129), ..good.clone() },
            Code::InvalidArgument,
            "request_id",
        ),
        (
            order("r", Action::UpdateConfig(proto::UpdateConfigAction { patch: Some(patch) }), LONG),
            Code::InvalidArgument,
            "command.update_config.patch",
        ),
        (
            order("r", Action::UpdateConfig(proto::UpdateConfigAction { patch: None }), LONG),
            Code::InvalidArgument,
            "command.update_config.patch",
        ),
        (
            order("r", Action::Input(proto::InputAction { text: String::new() }), LONG),
            Code::InvalidArgument,
            "command.input.text",
        ),
        (order("r", Action::Stop(stop), LONG), Code::InvalidArgument, "command.stop.grace_period"),
        (custom("no spaces", None), Code::InvalidArgument, "command.custom.action_id"),
        (
            custom("n", Some(Value { kind: Some(Kind::NumberValue(f64::NAN)) })),
            Code::InvalidArgument,
            "command.custom.payload",
        ),
    ] {
        let refused = client.commands.send_command(request).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (code, named), "{refused}");
    }
    // What protobuf itself refuses: values nested more deeply than it decodes, and requests too large.
    let refused = client.commands.send_command(custom("n", Some(deep))).await.unwrap_err();
    assert!(matches!(refused.code(), Code::InvalidArgument | Code::Internal), "{refused}");
    let large = order("r", Action::Input(proto::InputAction { text: "x".repeat(2 << 20) }), LONG);
    assert_eq!(client.commands.send_command(large).await.unwrap_err().code(), Code::OutOfRange);
    for (name, code) in [
        ("runs/r/commands/none", Code::NotFound),
        ("runs/r", Code::InvalidArgument),
        ("runs/r/commands/a/b", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let request = proto::GetCommandRequest { name: name.into() };
        assert_eq!(client.commands.get_command(request).await.unwrap_err().code(), code, "{name}");
    }
    let listed = proto::ListRunsRequest { page_size: -1, ..Default::default() };
    assert_eq!(field(&client.runs.list_runs(listed).await.unwrap_err()), "page_size");
    let listed = proto::ListRunsRequest { states: vec![1, 99], ..Default::default() };
    assert_eq!(field(&client.runs.list_runs(listed).await.unwrap_err()), "states[1]");
    let listed = proto::ListCommandsRequest {
        parent: "runs/r".into(),
        page_token: "made-up".into(),
        ..Default::default()
    };
    assert_eq!(field(&client.commands.list_commands(listed).await.unwrap_err()), "page_token");
    let none = proto::CreateRunRequest { run_id: "s".into(), ..Default::default() };
    assert_eq!(field(&client.runs.create_run(none).await.unwrap_err()), "variation_ids");
    // Nothing was issued.
    let request = proto::ListCommandsRequest { parent: "runs/r".into(), ..Default::default() };
    assert_eq!(client.commands.list_commands(request).await.unwrap().into_inner().commands, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_floods_is_told_when_to_come_back() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = client.clone();
        flood.spawn(async move {
            let (mut sent, mut refused) = (0, Vec::new());
            for _ in 0..500 {
                match client.commands.send_command(pause("r", LONG)).await {
                    Ok(_) => sent += 1,
                    Err(status) => refused.push(status),
                }
            }
            (sent, refused)
        });
    }
    let begun = std::time::Instant::now();
    let outcomes = flood.join_all().await;
    let sent: u64 = outcomes.iter().map(|(sent, _)| sent).sum();
    let refused: Vec<_> = outcomes.into_iter().flat_map(|(_, refused)| refused).collect();
    let most = 200 + 100 * (begun.elapsed().as_secs() + 1);
    assert!(sent <= most && sent >= 100, "{sent} of 10,000 were let through in {:?}", begun.elapsed());
    for status in &refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    }
    // Who comes back when told is served again.
    let retry = refused[0].get_details_retry_info().unwrap().retry_delay.unwrap();
    tokio::time::sleep(retry).await;
    runcast_testkit::eventually("the caller is served again", support::PATIENCE, async || {
        let request = proto::GetRunRequest { name: "runs/r".into() };
        client.clone().runs.get_run(request).await.ok().map(drop)
    })
    .await;
}
