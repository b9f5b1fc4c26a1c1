//! Commands, configuration and letters over the local API.

mod support;

use runcast_protocol::{Status, Step};
use runcast_testkit::{Redis, eventually};
use serde_json::{Value, json};
use support::agent::Served;
use support::operator::Operator;
use support::{Lanes, SOON, call};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_of_commands_and_its_answers_are_what_becomes_of_them() {
    let (_redis, operator, served) = Served::alone().await;
    operator.issue("early", json!({"action": "pause"})).await;
    let mut agent = served.listen(None).await;
    let (name, data) = agent.next().await;
    assert_eq!(
        (name.as_str(), data["command"].as_str(), data["caller"].as_str()),
        ("command", Some("early"), Some("anna"))
    );
    assert_eq!((&data["action"], &data["sequence"]), (&json!("pause"), &json!(1)));
    assert!(data["deadline"].is_string());
    operator.issue("live", json!({"action": "custom", "name": "dance", "payload": {"steps": [1, 2]}})).await;
    let (_, data) = agent.next().await;
    assert_eq!((&data["name"], &data["payload"]), (&json!("dance"), &json!({"steps": [1, 2]})));

    served.ack("early", "accepted").await;
    served.ack("early", "accepted").await;
    let result = json!({"step": "applied", "result": {"at": "token 7"}, "reason": "done"});
    for _ in 0..2 {
        assert_eq!(served.post("/v1/commands/early/ack", result.clone()).await.0, 200);
    }
    let ended = operator.ended("early").await;
    assert_eq!((ended.reason.as_deref(), ended.result), (Some("done"), Some(json!({"at": "token 7"}))));
    assert_eq!(operator.steps("early").await, [Step::Delivered, Step::Accepted, Step::Applied]);
    // Nobody but the agent says what became of it.
    assert_eq!(operator.steps("live").await, [Step::Delivered]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_refused_and_says_why() {
    let (_redis, operator, served) = Served::alone().await;
    for id in ["c1", "c2", "c3"] {
        operator.issue(id, json!({"action": "pause"})).await;
        operator.said(id, Step::Delivered).await;
    }
    served.ack("c1", "applied").await;
    served.ack("c3", "accepted").await;
    // The end is refused while something is said that was not read.
    operator.said("c1", Step::Applied).await;
    operator.said("c3", Step::Accepted).await;
    assert!(operator.end(Step::Expired, "c2").await);
    let expired = async || {
        served.get("/v1/status").await["commands"]["open"]
            .as_array()?
            .iter()
            .all(|open| open["command"] != "c2")
            .then_some(())
    };
    eventually("the expiry is known", SOON, expired).await;
    for (path, body, status, why) in [
        ("c1", json!({"step": "failed"}), 409, "is applied already"),
        ("c1", json!({"step": "rejected"}), 409, "is applied already"),
        ("c2", json!({"step": "applied"}), 409, "is expired already"),
        ("c3", json!({"step": "rejected"}), 409, "is accepted already"),
        ("unknown", json!({"step": "applied"}), 404, "no such command"),
        ("c3", json!({"step": "delivered"}), 400, "accepted, rejected, applied or failed"),
        ("c3", json!({"step": "danced"}), 400, "unknown variant"),
        ("c3", json!({"step": "applied", "x": 1}), 400, "unknown field"),
        ("c%203", json!({"step": "applied"}), 400, "use 1 to 128"),
    ] {
        let (answered, problem) = served.post(&format!("/v1/commands/{path}/ack"), body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(answered == status && detail.contains(why), "{path}: {answered} {detail}");
    }
    operator.ended("c1").await;
    assert_eq!(operator.steps("c1").await, [Step::Delivered, Step::Applied]);
    assert_eq!(operator.steps("c2").await, [Step::Delivered]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_gets_what_is_open_after_their_cursor() {
    let (_redis, operator, mut served) = Served::alone().await;
    let mut agent = served.listen(None).await;
    operator.issue("c1", json!({"action": "pause"})).await;
    assert_eq!(agent.command().await, "c1");
    let cursor = agent.last_event_id().to_owned();
    drop(agent);
    for id in ["c2", "c3", "c4"] {
        operator.issue(id, json!({"action": "resume"})).await;
        operator.said(id, Step::Delivered).await;
    }
    served.ack("c3", "applied").await;
    operator.ended("c3").await;
    // Also a sidecar that was killed in between knows.
    for _ in 0..2 {
        let mut back = served.listen(Some(&cursor)).await;
        assert_eq!((back.command().await, back.command().await), ("c2".into(), "c4".into()));
        let mut anew = served.listen(None).await;
        assert_eq!([anew.command().await, anew.command().await, anew.command().await], ["c1", "c2", "c4"]);
        served.restart().await;
    }
    assert_eq!(operator.steps("c1").await, [Step::Delivered], "said once");
    served.ack("c1", "applied").await;
    operator.ended("c1").await;
    assert_eq!(operator.steps("c1").await, [Step::Delivered, Step::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_rather_ask_waits_for_an_answer() {
    let (_redis, operator, served) = Served::alone().await;
    let nothing = served.get("/v1/commands?wait=10ms").await;
    assert_eq!(nothing["events"], json!([]));
    let socket = served.socket.clone();
    let path = format!("/v1/commands?wait=60s&after={}", nothing["cursor"].as_str().expect("a cursor"));
    let waiting = tokio::spawn(async move { ask(&socket, &path).await });
    operator.issue("c1", json!({"action": "input", "text": "hello\n"})).await;
    let told = waiting.await.expect("answered");
    let event = &told["events"][0];
    assert_eq!(
        (&event["event"], &event["command"], &event["text"]),
        (&json!("command"), &json!("c1"), &json!("hello\n"))
    );
    let after = told["cursor"].as_str().expect("a cursor");
    assert_eq!(ask(&served.socket, &format!("/v1/commands?after={after}")).await["events"], json!([]));
    assert_eq!(ask(&served.socket, "/v1/commands").await["events"].as_array().map(Vec::len), Some(1));
}

async fn ask(socket: &std::path::Path, path: &str) -> Value {
    let (status, answer) = call(socket, "GET", path, "application/json", "").await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_agent_reads_the_configuration_that_commands_have_made() {
    let redis = Redis::start().await;
    let operator = Operator::of(&redis.url());
    let patch = |patch: Value| json!({"action": "config", "patch": patch});
    operator.issue("c1", patch(json!({"model": "x", "limits": {"tokens": 10}}))).await;
    operator.issue("c2", patch(json!({"model": null, "limits": {"seconds": 5}}))).await;
    operator.issue("c3", patch(json!({"never": true}))).await;
    assert!(operator.end(Step::Expired, "c3").await);
    operator.issue_to(&["b"], "c4", patch(json!({"for": "another"})), 30).await;
    let served = Served::of(&redis, "a").await;
    let merged = json!({"limits": {"tokens": 10, "seconds": 5}});
    // The expiry of the third is the last change.
    assert_eq!(served.get("/v1/config").await, json!({"version": 4, "config": merged}));
    operator.issue("c5", patch(json!({"limits": 7}))).await;
    let newest = async || {
        (served.get("/v1/config").await == json!({"version": 6, "config": {"limits": 7}})).then_some(())
    };
    eventually("the configuration changes", SOON, newest).await;
    assert_eq!(
        Served::of(&Redis::start().await, "a").await.get("/v1/config").await,
        json!({"version": 0, "config": {}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_write_to_one_of_the_others_or_to_all() {
    let redis = Redis::start().await;
    let (a, b, c) =
        (Served::of(&redis, "a").await, Served::of(&redis, "b").await, Served::of(&redis, "c").await);
    let (mut to_b, mut to_c) = (b.listen(None).await, c.listen(None).await);
    // What was written before somebody listens can be had from the beginning.
    let sent = a.post("/v1/letters", json!({"to": "b", "payload": {"idea": 1}})).await;
    assert_eq!(sent, (200, json!({"lane": "control/a", "sequence": 1})));
    a.post("/v1/letters", json!({"payload": "to all"})).await;
    let letter = |payload: Value, sequence: u64| {
        ("message".to_owned(), json!({"from": "a", "payload": payload, "sequence": sequence}))
    };
    assert_eq!(to_b.next().await, letter(json!({"idea": 1}), 1));
    assert_eq!(to_b.next().await, letter(json!("to all"), 2));
    assert_eq!(to_c.next().await, letter(json!("to all"), 2));
    let late = b.get("/v1/commands?after=%40control:0").await;
    assert_eq!(late["events"].as_array().map(Vec::len), Some(2), "{late}");
    assert_eq!(a.get("/v1/commands").await["events"], json!([]), "nobody hears their own");
    for (body, why) in [
        (json!({"to": "a", "payload": 1}), "this agent itself"),
        (json!({"to": "b b", "payload": 1}), "use 1 to 128"),
        (json!({"to": "b"}), "payload"),
    ] {
        let (status, problem) = a.post("/v1/letters", body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(why), "{status} {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_agent_finishes_its_commands_end_and_its_streams_too() {
    let (redis, operator, served) = Served::alone().await;
    let mut agent = served.listen(None).await;
    for (id, action) in
        [("stop", json!({"action": "stop", "grace_ms": 1000})), ("pause", json!({"action": "pause"}))]
    {
        operator.issue(id, action).await;
        assert_eq!(agent.command().await, id);
    }
    served.ack("stop", "accepted").await;
    assert_eq!(served.post("/v1/finish", json!({"state": "cancelled"})).await.0, 200);
    assert_eq!(agent.try_next().await, None);
    let said = async |id| {
        let ended = operator.ended(id).await;
        (ended.step, ended.reason.expect("a reason"))
    };
    assert_eq!(said("stop").await, (Step::Applied, "the agent ended: cancelled".into()));
    assert_eq!(
        said("pause").await,
        (Step::Failed, "the agent ended without saying what became of it".into())
    );
    let (status, _) = unreadable(&served.socket).await;
    assert_eq!(status, 204);
    let lanes = Lanes::of(&redis.url());
    let last: Vec<Status> = lanes.statuses().await;
    assert_eq!(last.len(), 2);
    assert_eq!(redis.command(&["EXISTS", "run:{run-1}:lease:a"]).await.expect("an answer").text(), "0");
}

/// The status of an answer that has no body.
async fn unreadable(socket: &std::path::Path) -> (u16, bytes::Bytes) {
    use http_body_util::{BodyExt, Empty};
    let stream = tokio::net::UnixStream::connect(socket).await.expect("the API listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("it speaks HTTP");
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/v1/commands").header("host", "sidecar");
    let request = request.body(Empty::<bytes::Bytes>::new()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    connection.abort();
    (status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_of_open_commands_and_the_lease() {
    let (_redis, operator, served) = Served::alone().await;
    operator.issue("c1", json!({"action": "pause"})).await;
    operator.said("c1", Step::Delivered).await;
    let status = served.get("/v1/status").await;
    assert_eq!(
        status["commands"],
        json!({"open": [{"command": "c1", "action": "pause", "step": "delivered"}], "config_version": 0})
    );
    assert_eq!(status["lease"]["ttl_seconds"], json!(10.0));
    assert!(status["lease"]["age_seconds"].is_f64(), "{status}");
}
