//! Who takes too much of Redis is found, whatever it writes with.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use runcast_protocol::State;
use runcast_protocol::grpc::control as proto;
use runcast_testkit::{Control, Pen, Redis, eventually, http_get};
use support::{Client, PATIENCE};
use tonic::Code;

fn new(run: &str) -> proto::CreateRunRequest {
    proto::CreateRunRequest { run_id: run.into(), variation_ids: vec!["v".into()], ..Default::default() }
}

/// Whether a line of metrics says that a tenant has too many bytes.
fn counted(line: &str) -> bool {
    let labels = line.strip_prefix("runcast_control_quota_excesses_total{");
    labels.is_some_and(|labels| labels.contains("of=\"tenant\"") && labels.contains("what=\"memory\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_above_its_quota_gets_no_more_runs_until_it_is_below() {
    let redis = Redis::start().await;
    let settings = [
        ("RUNCAST__QUOTAS__INTERVAL", "100ms"),
        ("RUNCAST__QUOTAS__TENANTS", "a-,b-"),
        ("RUNCAST__QUOTAS__TENANT_MEMORY", "100KiB"),
    ];
    let control = Control::start_with(&redis.url(), &settings).await;
    let mut client = Client::of(&control).await;
    client.create("a-1", &["v"]).await;
    let mut pen = Pen::new(&redis.url(), "a-1", "v");
    pen.state(State::Running).await;
    // Nothing that compression makes small.
    let noise: String = (0..20_000).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    pen.say(&noise).await;
    eventually("it is seen", PATIENCE, async || {
        let (_, _, metrics) = http_get(&control.admin_url("/metrics"), &[]).await.ok()?;
        String::from_utf8(metrics.to_vec()).unwrap().lines().find(|line| counted(line)).map(drop)
    })
    .await;
    let refused = client.runs.create_run(new("a-2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("the runs of a- are above their quota"), "{refused}");
    // Neither who has none of it, nor who is no tenant's, nor who asks for what there is already.
    client.runs.create_run(new("b-1")).await.unwrap();
    client.runs.create_run(new("c-1")).await.unwrap();
    assert_eq!(client.runs.create_run(new("a-1")).await.unwrap_err().code(), Code::AlreadyExists);

    redis.command(&["DEL", "run:{a-1}:output:v"]).await.unwrap();
    eventually("it is below", PATIENCE, async || client.runs.create_run(new("a-2")).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_floods_redis_loses_its_user() {
    let redis = Redis::start().await;
    let settings = [
        ("RUNCAST__ACL__MANAGE", "true"),
        ("RUNCAST__QUOTAS__INTERVAL", "100ms"),
        ("RUNCAST__QUOTAS__RUN_MESSAGES_PER_SECOND", "50"),
        ("RUNCAST__QUOTAS__PATIENCE", "300ms"),
        ("RUNCAST__QUOTAS__REVOKE", "true"),
    ];
    let control = Control::start_with(&redis.url(), &settings).await;
    let mut client = Client::of(&control).await;
    let mut credential =
        async |run| client.runs.create_run(new(run)).await.unwrap().into_inner().credential.unwrap();
    let (modest, flooding) = (credential("modest").await, credential("flooding").await);
    let url = |user: &proto::Credential| {
        redis.url().replace("redis://", &format!("redis://{}:{}@", user.username, user.password))
    };
    let (mut quiet, mut loud) =
        (Pen::new(&url(&modest), "modest", "v"), Pen::new(&url(&flooding), "flooding", "v"));
    quiet.say("hello").await;
    // Until it may write no more, which a pen says by a panic.
    let flood = tokio::spawn(async move {
        loop {
            loud.say("flood").await;
        }
    });
    eventually("its user is gone", PATIENCE, async || {
        let users = redis.command(&["ACL", "USERS"]).await.unwrap();
        let users: Vec<String> = users.items().iter().map(runcast_testkit::Reply::text).collect();
        assert!(users.contains(&modest.username), "the others keep theirs");
        (!users.contains(&flooding.username)).then_some(())
    })
    .await;
    assert!(flood.await.unwrap_err().is_panic());
    quiet.say("still there").await;
}
