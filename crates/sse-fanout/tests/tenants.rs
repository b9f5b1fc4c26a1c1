//! What a tenant's token shows of the others' runs: nothing, not even whether there are any.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;

use runcast_protocol::State;
use runcast_testkit::{Fanout, Issuer, Pen, Redis, command, http_get, http_post_text};

/// What the service does by itself: it looks whether Redis, and its subscriptions, are well.
const ITS_OWN: [&str; 8] =
    ["ping", "publish", "subscribe", "hello", "info", "client|id", "role", "config|resetstat"];

/// How often each command was called since the last time, but for those that the service calls by itself.
async fn commands(redis: &Redis) -> BTreeMap<String, u64> {
    let text = command(redis.port(), &["INFO", "commandstats"]).await.unwrap().text();
    command(redis.port(), &["CONFIG", "RESETSTAT"]).await.unwrap();
    let called = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    called.filter(|(name, _)| !ITS_OWN.contains(&name.as_str())).collect()
}

/// An answer as the client has it, but for the time.
async fn answer(fanout: &Fanout, path: &str, token: &str) -> (u16, BTreeMap<String, String>, String) {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = if path.contains("/ws") { &headers[..] } else { &headers[..1] };
    let (status, headers, body) = http_get(&fanout.url(path), headers).await.unwrap();
    let headers = headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (status, headers.collect(), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_run_that_is_not_ours_is_refused_by_its_name_before_anybody_looks() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = Fanout::start_with(&redis.url(), &issuer.settings()).await;
    // One is live, one is over, one never was.
    for (run, over) in [("b-live", false), ("b-over", true)] {
        let mut pen = Pen::new(&redis.url(), run, "v");
        pen.say("secret").await;
        if over {
            pen.state(State::Succeeded).await;
        }
    }
    let claims = |more: &str| {
        issuer.token(&format!(r#"{{"exp":4000000000,"runs":["a-*"],"operations":["view"]{more}}}"#))
    };
    let (plain, named) = (claims(""), claims(r#","jti":"t-1""#));
    commands(&redis).await;
    let mut refused = 0;
    for query in [
        "",
        "/events",
        "/events?after=v:2",
        "/events?after=nonsense",
        "/events?channels=nonsense",
        "/events?from=snapshot&variations=v",
        "/events?from=now",
        "/ws",
        "/ws?after=v:2",
    ] {
        let ask =
            async |run: &str, token: &str| answer(&fanout, &format!("/v1/runs/{run}{query}"), token).await;
        let never = ask("b-never", &plain).await;
        assert_eq!(never.0, 403, "{query}: {}", never.2);
        assert!(!never.2.contains("b-"), "{query}: {}", never.2);
        for run in ["b-live", "b-over"] {
            assert_eq!(ask(run, &plain).await, never, "{run}{query}");
        }
        refused += 3;
    }
    assert_eq!(commands(&redis).await, BTreeMap::new(), "{refused} refused requests");

    // Of a token with a name it is asked whether it was revoked, and nothing else.
    for run in ["b-live", "b-never"] {
        assert_eq!(answer(&fanout, &format!("/v1/runs/{run}/events"), &named).await.0, 403);
    }
    assert_eq!(commands(&redis).await, BTreeMap::from([("exists".to_owned(), 2)]));

    // Without a good token, or with a ticket that is none, as little.
    for token in ["", "x.y.z", &plain[1..]] {
        assert_eq!(answer(&fanout, "/v1/runs/b-live", token).await.0, 401);
    }
    assert_eq!(answer(&fanout, "/v1/runs/b-live?ticket=x", &plain).await.0, 401);
    assert_eq!(commands(&redis).await, BTreeMap::new());

    // A ticket for it is refused as well, and there are no lists here that could show it.
    let bearer = format!("Bearer {plain}");
    let headers = [("authorization", bearer.as_str())];
    for body in [r#"{"runs":["b-live"]}"#, r#"{"runs":["b-never"]}"#, r#"{"runs":["*"]}"#] {
        assert_eq!(http_post_text(&fanout.url("/v1/tickets"), &headers, body).await.unwrap().0, 403);
    }
    for path in ["/v1/runs", "/v1/runs/", "/v1/runs/b-live/nothing"] {
        let (status, _, body) = answer(&fanout, path, &plain).await;
        assert!(matches!(status, 400 | 404) && !body.contains("secret"), "{path}: {status} {body}");
    }
    assert_eq!(commands(&redis).await, BTreeMap::new());
    // Ours, to see that the counting works.
    assert_eq!(answer(&fanout, "/v1/runs/a-1", &plain).await.0, 404);
    assert!(!commands(&redis).await.is_empty());
}
