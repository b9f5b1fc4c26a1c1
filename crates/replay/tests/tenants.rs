//! What a tenant's token shows of the others' runs: nothing.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_protocol::{State, Status};
use runcast_testkit::{Pen, Redis, Replay, eventually, http_get};

const SOON: Duration = Duration::from_secs(20);
/// HS256 by the secret below, until 2096: of tenant `a-`, and of an operator who may see all runs.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(claims: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as URL_SAFE;
    let message = format!("{}.{}", URL_SAFE.encode(r#"{"alg":"HS256"}"#), URL_SAFE.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE.encode(ring::hmac::sign(&key, message.as_bytes()));
    format!("Bearer {message}.{signature}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_nothing_of_the_others() {
    let redis = Redis::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let settings = [
        ("RUNCAST__RUNS__INTERVAL", "20ms"),
        ("RUNCAST__AUTH__MODE", "jwt"),
        ("RUNCAST__AUTH__SECRET_FILE", file.path().to_str().unwrap()),
    ];
    let replay = Replay::start_with(&redis.url(), &settings).await;
    for run in ["a-1", "a-2", "b-1", "b-2"] {
        let mut pen = Pen::new(&redis.url(), run, "v");
        pen.status(&Status { variations: Some(1), ..Status::new(State::Running) }).await;
        pen.say("hello").await;
    }
    let of = |tenant: &str| {
        let operations = r#"["view","replay","export","manage"]"#;
        token(&format!(r#"{{"exp":4000000000,"runs":["{tenant}*"],"operations":{operations}}}"#))
    };
    let (all, ours) = (of(""), of("a-"));
    let get = async |path: &str, token: &str| {
        let (status, _, body) = http_get(&replay.url(path), &[("authorization", token)]).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    eventually("all runs are known", SOON, async || {
        let (_, list) = get("/v1/runs", &all).await;
        ["a-1", "a-2", "b-1", "b-2"].iter().all(|run| list.contains(run)).then_some(())
    })
    .await;

    for query in ["", "?limit=1", "?prefix=b", "?limit=2", "?sort=-run_id&page_token=-run_id~~b-1"] {
        let (status, list) = get(&format!("/v1/runs{query}"), &ours).await;
        assert!(status == 200 && !list.contains("b-2") && !list.contains("\"b-1"), "{query}: {list}");
    }
    assert!(get("/v1/runs?limit=2", &ours).await.1.contains(r#""next_page_token":"""#));
    for path in ["", "/messages", "/replay", "/export", "/dead"] {
        let there = get(&format!("/v1/runs/b-1{path}"), &ours).await;
        let not_there = get(&format!("/v1/runs/b-9{path}"), &ours).await;
        assert_eq!((there.0, &there), (403, &not_there), "{path}");
    }
    assert_eq!(get("/v1/archive/b-1", &ours).await, get("/v1/archive/b-9", &ours).await);
    let (status, text) = get("/v1/runs/a-1/messages?format=text&channels=output", &ours).await;
    assert!(status == 200 && text.contains("hello"), "{status} {text}");

    for wrong in ["", "Bearer x", "Basic eDp5"] {
        assert_eq!(get("/v1/runs/a-1", wrong).await.0, 401, "{wrong}");
    }
    let some =
        token(r#"{"exp":4000000000,"runs":["a-*"],"operations":["view","replay"],"channels":["logs"]}"#);
    assert_eq!(get("/v1/runs/a-1", &some).await.0, 403);
    assert_eq!(get("/v1/runs/a-1/messages?channels=output", &some).await.0, 403);
    let (status, text) = get("/v1/runs/a-1/messages", &some).await;
    assert!(status == 200 && !text.contains("hello"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_of_tokens_comes_at_its_rate() {
    let redis = Redis::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let settings = [
        ("RUNCAST__AUTH__MODE", "jwt"),
        ("RUNCAST__AUTH__SECRET_FILE", file.path().to_str().unwrap()),
        ("RUNCAST__AUTH__REQUESTS_PER_SECOND_PER_HOLDER", "1"),
        ("RUNCAST__AUTH__REQUEST_BURST_PER_HOLDER", "2"),
    ];
    let replay = Replay::start_with(&redis.url(), &settings).await;
    let ask = async |subject: &str| {
        let token =
            token(&format!(r#"{{"exp":4000000000,"sub":"{subject}","runs":["*"],"operations":["view"]}}"#));
        http_get(&replay.url("/v1/runs"), &[("authorization", &token)]).await.unwrap()
    };
    let refused = loop {
        let answer = ask("ann").await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!((refused.0, refused.1["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(ask("bob").await.0, 200);
}
