//! `runcast token` against a real control plane, and `runcast tail` with a token.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::process::{Command, Stdio};

use runcast_protocol::State;
use runcast_testkit::{Control, Fanout, Issuer, Pen, Redis, command};

/// Runs it to its end: whether it went well, standard output, standard error.
async fn runcast(arguments: &[&str], token: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
    command.args(arguments).env("RUNCAST_TOKEN", token).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_and_one_is_revoked() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let control = Control::start_with(&redis.url(), &issuer.settings()).await;
    let fanout = Fanout::start_with(&redis.url(), &issuer.settings()).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("hello").await;
    pen.state(State::Succeeded).await;
    let claims = |more: &str| issuer.token(&format!(r#"{{"exp":4000000000,"runs":["r"],{more}}}"#));
    let (operator, viewer) =
        (claims(r#""operations":["revoke"]"#), claims(r#""operations":["view"],"jti":"t-1""#));

    let tail = ["tail", "r", "--fanout", &fanout.url("")];
    let (ok, text, said) = runcast(&tail, &viewer).await;
    assert!(ok && text.starts_with("hello"), "{text} {said}");
    let url = control.url();
    let revoke =
        |more: &[&'static str]| [&["token", "revoke", "t-1", "--control", url.as_str()], more].concat();
    let (ok, _, said) = runcast(&revoke(&["--for", "1h"]), &viewer).await;
    assert!(!ok && said.contains("the token does not allow this"), "{said}");
    let (ok, _, said) = runcast(&revoke(&[]), &operator).await;
    assert!(!ok && said.contains("--until"), "{said}");
    let (ok, text, said) = runcast(&revoke(&["--for", "1h"]), &operator).await;
    assert!(ok && text.contains("revoked t-1"), "{text} {said}");
    let left: u64 =
        command(redis.port(), &["TTL", "auth:revoked:t-1"]).await.unwrap().text().parse().unwrap();
    assert!((3600..=3900).contains(&left), "{left} s");
    let (ok, _, said) = runcast(&tail, &viewer).await;
    assert!(!ok && said.contains("the token was revoked"), "{said}");
}
