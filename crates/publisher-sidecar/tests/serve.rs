//! `serve`: the local API.

mod support;

use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use runcast_protocol::State;
use runcast_testkit::{Process, Redis, Sidecar, eventually};
use serde_json::{Value, json};
use support::{Lanes, RUN, SOON, call, send, stream, told};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

struct Served {
    redis: Redis,
    lanes: Lanes,
    sidecar: Process,
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("agent.sock");
        let sidecar = Sidecar::new(&redis.url(), RUN, "a").serve(&socket).await;
        Self { lanes: Lanes::of(&redis.url()), redis, sidecar, socket, folder }
    }

    async fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        call(&self.socket, "POST", path, content_type, body).await
    }

    async fn refused(&self, path: &str, content_type: &str, body: &str) -> (u16, String) {
        let (status, problem) = self.post(path, content_type, body).await;
        assert_eq!(problem["status"], status, "{problem}");
        (status, problem["detail"].as_str().expect("a detail").to_owned())
    }

    async fn stop(&mut self) {
        self.sidecar.terminate();
        assert_eq!(self.sidecar.wait(SOON).await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_answered_with_lane_and_number() {
    let served = Served::start().await;
    let one = json!({"type": "output", "content": "Hi", "metadata": {"k": 1}, "mine": true}).to_string();
    assert_eq!(
        served.post("/v1/messages", JSON, &one).await,
        (200, json!({"lane": "output/a", "sequence": 1}))
    );
    let many = json!([{"type": "log", "content": 1}, {"type": "output", "content": "!"}, {"type": "output", "content": "?"}]);
    let (status, answer) = served.post("/v1/messages", JSON, &many.to_string()).await;
    let lanes = json!({"logs/a": {"first": 1, "last": 1}, "output/a": {"first": 2, "last": 3}});
    assert_eq!((status, answer), (200, json!({"accepted": 3, "lanes": lanes})));
    served.lanes.say("Hi!?").await;
    let first = served.lanes.messages("output/a").await.expect("redis answers").remove(0);
    assert_eq!((first.metadata.as_str(), first.extra[0].0.as_str()), ("{\"k\":1}", "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_lines_is_published_while_it_lasts() {
    let served = Served::start().await;
    let (pieces, answer) = stream(&served.socket, "/v1/messages", NDJSON);
    pieces.send(b"{\"type\":\"output\",\"content\":\"a\"}\n\n{\"type\":\"outp").await.expect("open");
    served.lanes.say("a").await;
    pieces.send(b"ut\",\"content\":\"b\"}\r\n").await.expect("open");
    served.lanes.say("ab").await;
    pieces.send(b"{\"type\":\"output\",\"content\":\"c\"}").await.expect("open");
    drop(pieces);
    let lanes = json!({"output/a": {"first": 1, "last": 3}});
    assert_eq!(answer.await.expect("answered"), (200, json!({"accepted": 3, "lanes": lanes})));
    served.lanes.say("abc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_named_and_what_came_before_it_stays() {
    let served = Served::start().await;
    let lines =
        "{\"type\":\"output\",\"content\":\"a\"}\n\nnonsense\n{\"type\":\"output\",\"content\":\"b\"}\n";
    let (status, detail) = served.refused("/v1/messages", NDJSON, lines).await;
    assert_eq!(status, 400);
    assert!(detail.starts_with("line 3: ") && detail.ends_with("; 1 accepted before it"), "{detail}");
    served.lanes.say("a").await;
    let huge = format!("{{\"type\":\"output\",\"content\":\"{}\"}}\n", "x".repeat(1 << 20));
    let (status, detail) = served.refused("/v1/messages", NDJSON, &huge).await;
    assert_eq!(status, 413);
    assert!(detail.contains("message.max_bytes"), "{detail}");
    assert_eq!(served.refused("/v1/messages", JSON, &huge).await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_is_taken_whole_or_not_at_all() {
    let served = Served::start().await;
    let array = "[{\"type\":\"output\",\"content\":\"a\"},{\"type\":\"output\"}]";
    let (status, detail) = served.refused("/v1/messages", JSON, array).await;
    assert_eq!((status, detail.as_str()), (400, "message 2: `content` is missing"));
    served.post("/v1/output", "text/plain", "only this").await;
    served.lanes.say("only this").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_text_is_published_as_it_comes() {
    let served = Served::start().await;
    let (pieces, answer) = stream(&served.socket, "/v1/output", "text/plain");
    pieces.send(b"tok\xf0\x9f").await.expect("open");
    served.lanes.say("tok").await;
    pieces.send(b"\x9a\x80\xc3").await.expect("open");
    served.lanes.say("tok🚀").await;
    drop(pieces);
    let (status, answer) = answer.await.expect("answered");
    assert_eq!((status, answer), (200, json!({"lane": "output/a", "first": 1, "last": 3})));
    served.lanes.say("tok🚀\u{fffd}").await;
    let nothing = json!({"lane": "output/a", "first": null, "last": null});
    assert_eq!(served.post("/v1/output", "text/plain", "").await, (200, nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_is_answered_when_the_end_is_in_redis_and_nothing_comes_after_it() {
    let mut served = Served::start().await;
    served.post("/v1/output", "text/plain", "all").await;
    let wish = json!({"state": "failed", "exit_code": 2, "reason": "no luck"});
    assert_eq!(served.post("/v1/finish", JSON, &wish.to_string()).await, (200, wish.clone()));
    assert_eq!(served.lanes.states().await, [State::Running, State::Failed]);
    assert_eq!(served.lanes.text().await.as_deref(), Some("all"));

    assert_eq!(
        served.post("/v1/finish", JSON, &wish.to_string()).await,
        (200, wish),
        "asking again is no mistake"
    );
    assert_eq!(served.refused("/v1/finish", JSON, "").await.0, 409);
    assert_eq!(served.refused("/v1/output", "text/plain", "more").await.0, 409);
    assert_eq!(served.refused("/v1/messages", JSON, "{\"type\":\"log\",\"content\":1}").await.0, 409);
    served.stop().await;
    assert_eq!(served.lanes.states().await, [State::Running, State::Failed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_stopped_before_the_end_says_that_the_variation_is_lost() {
    let mut served = Served::start().await;
    let (pieces, answer) = stream(&served.socket, "/v1/output", "text/plain");
    pieces.send(b"unfinished").await.expect("open");
    served.lanes.say("unfinished").await;
    // An open stream is answered, and does not hold the end up.
    served.stop().await;
    assert_eq!(answer.await.expect("answered").0, 200);
    assert_eq!(served.lanes.states().await, [State::Running, State::Lost]);
    assert!(!served.socket.exists(), "the socket is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sidecar_goes_on_or_knows_that_it_is_over() {
    let mut served = Served::start().await;
    served.post("/v1/output", "text/plain", "one ").await;
    served.lanes.say("one ").await;
    served.sidecar.kill9();
    let again = Sidecar::new(&served.redis.url(), RUN, "a");
    served.sidecar = again.serve(&served.socket).await;
    assert_eq!(served.post("/v1/output", "text/plain", "two").await.1["first"], 2);
    assert_eq!(served.post("/v1/finish", JSON, "").await.0, 200);
    served.sidecar.kill9();
    served.sidecar = again.serve(&served.socket).await;
    eventually("it knows", SOON, async || {
        let (_, status) = call(&served.socket, "GET", "/v1/status", "", "").await;
        (status["finished"]["state"] == "succeeded").then_some(())
    })
    .await;
    served.stop().await;
    assert_eq!(served.lanes.states().await, [State::Running, State::Succeeded]);
    assert_eq!(served.lanes.text().await.as_deref(), Some("one two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_is_narrow_and_says_where_it_is() {
    let served = Served::start().await;
    let (status, problem) = call(&served.socket, "GET", "/v1/nope", "", "").await;
    assert_eq!(status, 404);
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("POST /v1/messages")),
        "{problem}"
    );
    assert_eq!(call(&served.socket, "GET", "/v1/output", "", "").await.0, 405);
    assert_eq!(served.refused("/v1/messages", "text/plain", "{}").await.0, 415);
    assert_eq!(served.refused("/v1/finish", JSON, "{\"state\":\"running\"}").await.0, 400);
    let page =
        http::Request::builder().method("POST").uri("/v1/output").header("origin", "https://example.org");
    assert_eq!(send(&served.socket, page, Full::from("x").boxed_unsync()).await.0, 403);

    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&served.socket).expect("a socket"));
    assert_eq!(mode & 0o777, 0o600);
    let second = Sidecar::new(&served.redis.url(), "run-2", "a")
        .set("RUNCAST__API__SOCKET", served.socket.display())
        .set("RUNCAST__API__LISTEN", "")
        .command("serve");
    let mut second = Process::start("second", second);
    assert_eq!(second.wait(SOON).await.code(), Some(1), "a socket that is in use was taken away");
    told(&second, "`api.socket`").await;
    assert!(served.folder.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_is_for_this_host_only() {
    let served = Sidecar::new("redis://127.0.0.1:1", RUN, "a").set("RUNCAST__API__LISTEN", "0.0.0.0:0");
    let mut process = Process::start("serve", served.command("serve"));
    assert_eq!(process.wait(SOON).await.code(), Some(78));
    told(&process, "loopback").await;
}
