//! Tickets: good once, on any replica, for what they were had for.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_bus::{Bus, RedisConfig};
use runcast_testkit::{Fanout, Issuer, Pen, Redis, command, eventually, http_get, http_post_text};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Of who may view all of team a's runs.
const CLAIMS: &str = r#"{"exp":4000000000,"jti":"t-1","runs":["a-*"],"operations":["view","replay"]}"#;

/// Asks for a ticket.
async fn ask(fanout: &Fanout, token: &str, body: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let (status, headers, body) = http_post_text(&fanout.url("/v1/tickets"), &headers, body).await.unwrap();
    assert!(status != 201 || headers["cache-control"] == "no-store");
    (status, serde_json::from_slice(&body).unwrap())
}

async fn ticket(fanout: &Fanout, token: &str, body: &str) -> String {
    let (status, answer) = ask(fanout, token, body).await;
    assert_eq!(status, 201, "{answer}");
    answer["ticket"].as_str().unwrap().to_owned()
}

async fn status(fanout: &Fanout, path: &str) -> u16 {
    let (status, _, _) = http_get(&fanout.url(path), &[]).await.unwrap();
    status
}

async fn start(redis: &Redis, issuer: &Issuer) -> Fanout {
    Fanout::start_with(&redis.url(), &issuer.settings()).await
}

#[tokio::test]
async fn a_ticket_is_good_once_on_whichever_replica() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let (one, two) = (start(&redis, &issuer).await, start(&redis, &issuer).await);
    let mut pen = Pen::new(&redis.url(), "a-1", "v");
    pen.say("one").await;
    let token = issuer.token(CLAIMS);
    let ticket = ticket(&one, &token, "").await;
    // It stands nowhere in Redis.
    let keys = command(redis.port(), &["KEYS", "auth:*"]).await.unwrap().text();
    assert!(keys.starts_with("auth:ticket:") && !keys.contains(&ticket), "{keys}");

    let mut viewer = two.viewer("a-1", &format!("ticket={ticket}"));
    assert_eq!(viewer.connect().await.unwrap(), 200);
    viewer.next().await.unwrap().unwrap();
    for fanout in [&one, &two] {
        let path = format!("/v1/runs/a-1/events?ticket={ticket}");
        let (status, _, body) = http_get(&fanout.url(&path), &[]).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(status == 401 && body.contains("get a new one with POST /v1/tickets"), "{status} {body}");
    }

    // The stream lives as the token does.
    let operator = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let unused = self::ticket(&one, &token, "").await;
    operator.revoke_token("t-1", Duration::from_secs(60)).await.unwrap();
    assert_eq!(viewer.next().await.unwrap().unwrap().event, "end");
    assert_eq!(viewer.history.dismissed.as_deref(), Some("revoked"));
    assert_eq!(status(&one, &format!("/v1/runs/a-1?ticket={unused}")).await, 401);
    assert_eq!(ask(&one, &token, "").await.0, 401);
}

#[tokio::test]
async fn a_ticket_shows_what_it_was_had_for_and_never_more() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer).await;
    for run in ["a-1", "a-2"] {
        Pen::new(&redis.url(), run, "v").say("one").await;
    }
    let token = issuer.token(CLAIMS);
    let of_one = r#"{"runs":["a-1"],"channels":["output"]}"#;
    for (path, body, expected) in [
        ("/v1/runs/a-2", "", 200),
        ("/v1/runs/a-1", r#"{"runs":["a-1"]}"#, 200),
        ("/v1/runs/a-2", r#"{"runs":["a-1"]}"#, 403),
        ("/v1/runs/b-1", "", 403),
        ("/v1/runs/a-1", of_one, 403),
        ("/v1/runs/a-1/events?channels=logs", of_one, 403),
        ("/v1/runs/a-1/ws?channels=output", of_one, 426),
    ] {
        let ticket = ticket(&fanout, &token, body).await;
        let between = if path.contains('?') { '&' } else { '?' };
        assert_eq!(
            status(&fanout, &format!("{path}{between}ticket={ticket}")).await,
            expected,
            "{path} {body}"
        );
    }
    for (body, expected) in [
        (r#"{"runs":["*"]}"#, 403),
        (r#"{"runs":["b-1"]}"#, 403),
        (r#"{"run":["a-1"]}"#, 400),
        ("x", 400),
        (&*" ".repeat(5000), 413),
    ] {
        assert_eq!(ask(&fanout, &token, body).await.0, expected, "{body:.40}");
    }
    let without = issuer.token(r#"{"exp":4000000000,"runs":["a-*"],"operations":["replay"]}"#);
    assert_eq!(ask(&fanout, &without, "").await.0, 403);
    assert_eq!(ask(&fanout, "x", "").await.0, 401);
}

#[tokio::test]
async fn a_ticket_that_nobody_uses_is_soon_good_for_nothing() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer).await;
    let (_, answer) = ask(&fanout, &issuer.token(CLAIMS), r#"{"expires_in":1}"#).await;
    assert_eq!(answer["expires_in"], 1);
    let (_, longest) = ask(&fanout, &issuer.token(CLAIMS), r#"{"expires_in":100000}"#).await;
    assert_eq!(longest["expires_in"], 30);
    eventually("one of them is forgotten", SOON, async || {
        let keys = command(redis.port(), &["KEYS", "auth:ticket:*"]).await.unwrap();
        (keys.items().len() == 1).then_some(())
    })
    .await;
    let of = |answer: &Value| format!("/v1/runs/a-1?ticket={}", answer["ticket"].as_str().unwrap());
    assert_eq!(status(&fanout, &of(&answer)).await, 401);
    // Nothing is known of the run; whoever holds the ticket may know that.
    assert_eq!(status(&fanout, &of(&longest)).await, 404);
}

#[tokio::test]
async fn a_foreign_page_gets_no_ticket_by_the_cookie_and_may_ask_with_a_token() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let more = [("RUNCAST__AUTH__COOKIE", "runcast"), ("RUNCAST__CORS__ORIGINS", "https://app.example")];
    let fanout = Fanout::start_with(&redis.url(), &[&issuer.settings()[..], &more].concat()).await;
    let cookie = format!("runcast={}", issuer.token(CLAIMS));
    let url = fanout.url("/v1/tickets");
    for (site, expected) in [("cross-site", 401), ("same-site", 401), ("same-origin", 201)] {
        let headers = [("cookie", cookie.as_str()), ("sec-fetch-site", site)];
        assert_eq!(http_post_text(&url, &headers, "").await.unwrap().0, expected, "{site}");
    }
    let bearer = format!("Bearer {}", issuer.token(CLAIMS));
    let headers = [("authorization", bearer.as_str()), ("origin", "https://app.example")];
    let (status, headers, _) = http_post_text(&url, &headers, "").await.unwrap();
    assert_eq!(
        (status, &headers["access-control-allow-origin"]),
        (201, &"https://app.example".parse().unwrap())
    );
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("Authorization") && allowed.contains("Content-Type"), "{allowed}");
}

#[tokio::test]
async fn one_token_cannot_fill_redis_with_tickets() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let more = [("RUNCAST__TICKETS__PER_SECOND", "1"), ("RUNCAST__TICKETS__BURST", "3")];
    let fanout = Fanout::start_with(&redis.url(), &[&issuer.settings()[..], &more].concat()).await;
    let (token, other) = (issuer.token(CLAIMS), issuer.token(&CLAIMS.replace("t-1", "t-2")));
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(ask(&fanout, &token, "").await.0);
    }
    assert_eq!(answers[..3], [201; 3]);
    assert!(answers.contains(&429), "{answers:?}");
    assert_eq!(ask(&fanout, &other, "").await.0, 201);
}

#[tokio::test]
async fn where_no_tokens_are_asked_for_tickets_do_no_harm() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    Pen::new(&redis.url(), "a-1", "v").say("one").await;
    let ticket = ticket(&fanout, "none", "").await;
    for _ in 0..2 {
        assert_eq!(status(&fanout, &format!("/v1/runs/a-1?ticket={ticket}")).await, 200);
    }
    assert_eq!(command(redis.port(), &["KEYS", "auth:*"]).await.unwrap().items().len(), 0);
}
