//! The real fan-out in front of a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_protocol::{Channel, Json, State, Status};
use runcast_testkit::{Fanout, Pen, Redis, Viewer, eventually, http_get};

const SOON: Duration = Duration::from_secs(20);

async fn until_text(viewer: &mut Viewer, variation: &str, text: &str) {
    while viewer.history.text(variation) != text {
        assert!(text.starts_with(viewer.history.text(variation)), "{:?}", viewer.history.text(variation));
        viewer.next().await.unwrap().expect("more to come");
    }
}

#[tokio::test]
async fn history_and_live_come_without_a_seam_and_end_cleanly() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
    pen.state(State::Running).await;
    pen.say("one ").await;
    let mut viewer = fanout.viewer("run-1", "");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    until_text(&mut viewer, "var-1", "one ").await;
    pen.say("two \n\n").await;
    until_text(&mut viewer, "var-1", "one two \n\n").await;
    pen.state(State::Succeeded).await;
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Succeeded);
    assert!(viewer.next().await.unwrap().is_none(), "a clean close");
    assert_eq!(viewer.connect().await.unwrap(), 204, "nothing is left to come");
}

#[tokio::test]
async fn headers_keep_proxies_from_buffering() {
    let redis = Redis::start().await;
    let fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__CORS__ORIGINS", "*")]).await;
    let mut viewer = fanout.viewer("run-1", "");
    viewer.connect().await.unwrap();
    let headers = viewer.headers().unwrap();
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(headers.get(name).unwrap(), value);
    }
    let (_, headers, _) =
        http_get(&fanout.url("/v1/runs/x"), &[("origin", "https://a.example")]).await.unwrap();
    assert_eq!(headers.get("access-control-allow-origin").unwrap(), "*");
}

#[tokio::test]
async fn a_run_that_does_not_exist_yet_is_waited_for() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewers = [
        fanout.viewer("later", ""),
        fanout.viewer("later", "from=now"),
        fanout.viewer("later", "variations=var-1"),
    ];
    for viewer in &mut viewers {
        assert_eq!(viewer.connect().await.unwrap(), 200);
    }
    assert_eq!(viewers[1].next().await.unwrap().unwrap().event, "start");
    // Cut off before the first message, it comes back to the same place.
    viewers[1].drop_connection();
    let mut pen = Pen::new(&redis.url(), "later", "var-1");
    pen.state(State::Running).await;
    pen.say("here").await;
    pen.state(State::Succeeded).await;
    for viewer in &mut viewers {
        viewer.watch_to_end(SOON).await.unwrap();
        assert_eq!(viewer.history.text("var-1"), "here");
    }
}

#[tokio::test]
async fn viewers_get_the_channels_and_variations_they_chose() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let (mut one, mut two) = (Pen::new(&redis.url(), "r", "var-1"), Pen::new(&redis.url(), "r", "var-2"));
    for pen in [&mut one, &mut two] {
        pen.say("words").await;
        pen.write(Channel::Logs, &[Json::of(&serde_json::json!({"message": "a line"}))]).await;
    }
    let mut viewer = fanout.viewer("r", "channels=logs,status&variations=var-2");
    viewer.connect().await.unwrap();
    two.state(State::Succeeded).await;
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.messages, 2, "{:?}", viewer.history.others);
    assert_eq!(viewer.history.position("logs/var-2"), 1);
    one.state(State::Failed).await;
    let mut all = fanout.viewer("r", "channels=output");
    all.watch_to_end(SOON).await.unwrap();
    assert_eq!(all.history.end.as_ref().unwrap().state, State::Failed);
    assert_eq!((all.history.text("var-1"), all.history.text("var-2")), ("words", "words"));
}

#[tokio::test]
async fn a_run_is_over_when_as_many_variations_as_it_said_have_ended() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("r", "");
    viewer.connect().await.unwrap();
    let (mut one, mut two) = (Pen::new(&redis.url(), "r", "var-1"), Pen::new(&redis.url(), "r", "var-2"));
    one.status(&Status { variations: Some(2), ..Status::new(State::Running) }).await;
    one.state(State::Succeeded).await;
    two.say("late").await;
    until_text(&mut viewer, "var-2", "late").await;
    assert!(viewer.history.end.is_none());
    two.state(State::Cancelled).await;
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn a_snapshot_costs_the_text_and_goes_on_live() {
    let redis = Redis::start().await;
    let fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__SSE__SNAPSHOT_BYTES", "4KiB")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.state(State::Running).await;
    let mut words = String::new();
    for number in 0..2000 {
        let word = format!("{number} \"é\"\n");
        pen.say(&word).await;
        words.push_str(&word);
    }
    let mut viewer = fanout.viewer("r", "from=snapshot");
    viewer.connect().await.unwrap();
    until_text(&mut viewer, "var-1", &words).await;
    assert_eq!(viewer.history.messages, 0, "snapshots only");
    // Comes back with the snapshot's id.
    viewer.drop_connection();
    viewer.connect().await.unwrap();
    pen.say("live").await;
    words.push_str("live");
    until_text(&mut viewer, "var-1", &words).await;
    assert_eq!(viewer.history.messages, 1);
}

#[tokio::test]
async fn messages_come_as_one_to_whoever_is_behind_or_asks_for_it() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    let words =
        |numbers: std::ops::Range<u32>| numbers.map(|number| format!("{number} \"é\"\n")).collect::<Vec<_>>();
    let contents = |words: &[String]| words.iter().map(|word| Json::string(word)).collect::<Vec<_>>();
    let (past, live) = (words(0..100), words(100..110));
    pen.write(Channel::Output, &contents(&past)).await;
    let mut viewers = ["", "merge=true", "merge=false"].map(|query| fanout.viewer("r", query));
    for (viewer, events) in viewers.iter_mut().zip([1, 1, 100]) {
        viewer.connect().await.unwrap();
        until_text(viewer, "var-1", &past.concat()).await;
        assert_eq!((viewer.history.events, viewer.history.messages), (events, 100));
    }
    // Cut off within what comes as one live, it has only the rest told.
    let mut within = fanout.viewer("r", "merge=true&after=var-1:104");
    within.history.begin_at(&"var-1:104".parse().unwrap());
    within.connect().await.unwrap();
    pen.write(Channel::Output, &contents(&live)).await;
    for (viewer, events) in viewers.iter_mut().zip([11, 2, 110]) {
        until_text(viewer, "var-1", &[past.concat(), live.concat()].concat()).await;
        assert_eq!((viewer.history.events, viewer.history.messages), (events, 110));
    }
    until_text(&mut within, "var-1", &live[4..].concat()).await;
}

#[tokio::test]
async fn what_was_trimmed_is_told_as_a_gap() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    for number in 0..300 {
        pen.say(&format!("{number} ")).await;
    }
    redis.command(&["XTRIM", "run:{r}:output:var-1", "MINID", "200"]).await.unwrap();
    let mut viewer = fanout.viewer("r", "");
    viewer.connect().await.unwrap();
    while viewer.history.position("output/var-1") < 300 {
        viewer.next().await.unwrap().unwrap();
    }
    let gap = &viewer.history.gaps[0];
    assert_eq!((gap.first.get(), gap.last.get(), viewer.history.gaps.len()), (1, 199, 1));

    redis.command(&["DEL", "run:{r}:output:var-1"]).await.unwrap();
    let mut late = fanout.viewer("r", "channels=output");
    late.connect().await.unwrap();
    late.next().await.unwrap().unwrap();
    assert_eq!((late.history.gaps[0].first.get(), late.history.gaps[0].last.get()), (1, 300));
    pen.say("still live").await;
    until_text(&mut late, "var-1", "still live").await;
}

#[tokio::test]
async fn a_publication_that_is_lost_is_found_by_the_check() {
    let redis = Redis::start().await;
    let settings = [("RUNCAST__FEED__CHECK_INTERVAL", "200ms")];
    let fanout = Fanout::start_with(&redis.url(), &settings).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.say("a").await;
    let mut viewer = fanout.viewer("r", "");
    viewer.connect().await.unwrap();
    until_text(&mut viewer, "var-1", "a").await;
    // Kept from publishing, as if the last message of a burst were lost on the way.
    redis.command(&["ACL", "SETUSER", "mute", "on", "nopass", "~*", "resetchannels", "+@all"]).await.unwrap();
    let line = runcast_testkit::message(
        &"r".parse().unwrap(),
        &"var-1".parse().unwrap(),
        Channel::Output,
        2u64.try_into().unwrap(),
        Json::string("b"),
    );
    redis.command(&[&b"XADD"[..], b"run:{r}:output:var-1", b"2-0", b"m", &line.to_line()]).await.unwrap();
    redis.command(&["HSET", "run:{r}:lanes", "output/var-1", "2 1"]).await.unwrap();
    until_text(&mut viewer, "var-1", "ab").await;
}

#[tokio::test]
async fn silence_is_filled_with_one_line_comments() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let redis = Redis::start().await;
    let fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__SSE__HEARTBEAT", "100ms")]).await;
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", fanout.port())).await.unwrap();
    socket.write_all(b"GET /v1/runs/quiet/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while seen.windows(7).filter(|window| *window == b"2\r\n:\n\r\n").count() < 2 {
        let mut buffer = [0; 1024];
        let count = tokio::time::timeout(SOON, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&buffer[..count]);
    }
}

#[tokio::test]
async fn a_redis_that_is_away_does_not_cost_a_viewer_its_connection() {
    let mut redis = Redis::builder().appendonly().start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.say("before ").await;
    let mut viewer = fanout.viewer("r", "");
    viewer.connect().await.unwrap();
    until_text(&mut viewer, "var-1", "before ").await;
    redis.kill9();
    let mut newcomer = fanout.viewer("r", "");
    assert_eq!(newcomer.connect().await.unwrap(), 200, "an error status would stop EventSource for good");
    redis.restart().await;
    eventually("the writer reconnects", SOON, async || pen.bus().ping().await.ok()).await;
    pen.say("after").await;
    until_text(&mut viewer, "var-1", "before after").await;
    until_text(&mut newcomer, "var-1", "before after").await;
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    for (path, status, named) in [
        ("/v1/runs/r/events?after=nonsense", 400, "after"),
        ("/v1/runs/r/events?channels=sound", 400, "channels"),
        ("/v1/runs/r%2F..%2Fx/events", 400, "run id"),
        ("/v1/runs/r/events?variations=a%0Ab", 400, "variation"),
        ("/v1/runs/none", 404, "none"),
        ("/elsewhere", 404, "/v1/runs"),
    ] {
        let (got, headers, body) = http_get(&fanout.url(path), &[]).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(got == status && body.contains(named), "{path}: {got} {body}");
        assert_eq!(headers.get("content-type").unwrap(), "application/problem+json");
    }
    let (status, _, _) =
        http_get(&fanout.url("/v1/runs/r/events"), &[("last-event-id", "garbage")]).await.unwrap();
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_viewer_ahead_of_this_replica_gets_only_what_it_lacks() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    for text in ["a", "b", "c"] {
        pen.say(text).await;
    }
    let mut viewer = fanout.viewer("r", "channels=output&after=var-1:4");
    viewer.connect().await.unwrap();
    viewer.history.begin_at(&"var-1:4".parse().unwrap());
    pen.say("d").await;
    pen.say("e").await;
    until_text(&mut viewer, "var-1", "e").await;
    assert_eq!(viewer.last_event_id(), "var-1:5");
}

#[tokio::test]
async fn on_shutdown_viewers_are_let_go_and_the_process_ends() {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__DRAIN__TIME", "500ms")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.say("a").await;
    let mut viewer = fanout.viewer("r", "");
    viewer.connect().await.unwrap();
    until_text(&mut viewer, "var-1", "a").await;
    fanout.process().terminate();
    assert!(viewer.next().await.unwrap().is_none(), "a clean close");
    assert!(fanout.process().wait(SOON).await.success());
}

#[tokio::test]
async fn a_wrong_option_is_named_before_any_port_opens() {
    let mut command = std::process::Command::new(runcast_testkit::binary("runcast-fanout"));
    let output = command.env("RUNCAST__SSE__HARTBEAT", "1s").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && told.contains("RUNCAST__SSE__HARTBEAT"), "{told}");
}
