//! The read models of runs, as a real replay keeps them of a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{DeadLetter, Limits};
use runcast_protocol::{Channel, Json, Lane, RunId, Sequence, State, Status, timestamp};
use runcast_testkit::{Pen, Redis, Replay, Sidecar, eventually, http_get, http_post};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const QUICK: (&str, &str) = ("RUNCAST__RUNS__INTERVAL", "20ms");

async fn get(replay: &Replay, path: &str) -> (u16, Value) {
    let (status, _, body) = http_get(&replay.url(path), &[]).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn post(replay: &Replay, path: &str) -> (u16, Value) {
    let (status, body) = http_post(&replay.url(path)).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The run's read model once it is as `is_it` says.
async fn until(replay: &Replay, run: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/runs/{run}");
    eventually("the read model", SOON, async || {
        let (status, summary) = get(replay, &path).await;
        (status == 200 && is_it(&summary)).then_some(summary)
    })
    .await
}

async fn names(replay: &Replay, query: &str) -> Vec<String> {
    let (status, listing) = get(replay, &format!("/v1/runs?{query}")).await;
    assert_eq!(status, 200, "{listing}");
    let runs = listing["runs"].as_array().unwrap().iter();
    runs.map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_from_its_first_message_to_its_end() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let (status, problem) = get(&replay, "/v1/runs/r").await;
    assert!(status == 404 && problem["detail"].as_str().unwrap().contains('r'), "{problem}");

    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.status(&Status { variations: Some(1), ..Status::new(State::Running) }).await;
    pen.say("Hé").await;
    let summary = until(&replay, "r", |run| run["channels"]["output"]["messages"] == 1).await;
    assert_eq!((&summary["state"], &summary["ended"]), (&json!("running"), &Value::Null));
    assert_eq!(summary["variations"]["var-1"]["last_words"], "Hé");

    pen.write(Channel::Logs, &[Json::of(&json!({"level": "ERROR", "message": "no disk"}))]).await;
    pen.say("llo").await;
    pen.status(&Status { exit_code: Some(3), ..Status::new(State::Failed).because("it broke") }).await;
    let summary = until(&replay, "r", |run| run["state"] == "failed").await;
    assert_eq!(summary["variations"]["var-1"]["last_words"], "Héllo");
    assert_eq!(summary["variations"]["var-1"]["exit_code"], 3);
    assert_eq!(summary["channels"]["output"], json!({"messages": 2, "bytes": 6}));
    assert_eq!((&summary["error_count"], &summary["missing"]), (&json!(2), &json!(0)));
    assert_eq!(summary["errors"][1]["text"], "failed: it broke");
    assert_eq!(summary["cursor"], "var-1:2.1.2");
    assert!(summary["ended"].is_string() && summary["duration_seconds"].as_f64().unwrap() > 0.0);

    let (_, headers, _) = http_get(&replay.url("/v1/runs/r"), &[]).await.unwrap();
    let tag = headers.get("etag").unwrap().to_str().unwrap().to_owned();
    let (status, _, body) = http_get(&replay.url("/v1/runs/r"), &[("if-none-match", &tag)]).await.unwrap();
    assert_eq!((status, body.len()), (304, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_agent_says_is_counted() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let agent = "printf 'one two'; echo oops >&2; echo '{\"timestamp\":\"t\",\"level\":\"fatal\",\"message\":\"dead\"}' >&2; exit 7";
    let mut sidecar = Sidecar::new(&redis.url(), "real", "a").exec(&["sh", "-c", agent]);
    sidecar.wait(SOON).await;
    let summary = until(&replay, "real", |run| run["state"] == "failed").await;
    let variation = &summary["variations"]["a"];
    assert_eq!((&variation["exit_code"], &variation["last_words"]), (&json!(7), &json!("one two")));
    assert_eq!(summary["channels"]["logs"]["messages"], 2);
    assert_eq!((&summary["errors"][0]["text"], &summary["error_count"]), (&json!("dead"), &json!(2)));
    assert!(variation["first_token_seconds"].as_f64().unwrap() < 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_filtered_sorted_and_paged() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    for number in 0..7 {
        let mut pen = Pen::new(&redis.url(), &format!("job-{number}"), "a");
        pen.state(State::Running).await;
        for _ in 0..number {
            pen.say("x").await;
        }
        if number % 2 == 0 {
            pen.state(State::Succeeded).await;
        }
    }
    Pen::new(&redis.url(), "other", "a").state(State::Running).await;
    eventually("all runs are known", SOON, async || {
        let (_, listing) = get(&replay, "/v1/runs").await;
        let messages = |run: &Value| run["channels"]["output"]["messages"].as_u64().unwrap_or(0);
        let total: u64 = listing["runs"].as_array().unwrap().iter().map(messages).sum();
        let over = names(&replay, "state=succeeded").await.len();
        (listing["runs"].as_array().unwrap().len() == 8 && total == 21 && over == 4).then_some(())
    })
    .await;
    assert_eq!(names(&replay, "").await[..2], ["other", "job-6"], "the newest first");
    assert_eq!(names(&replay, "state=succeeded&sort=run_id").await, ["job-0", "job-2", "job-4", "job-6"]);
    assert_eq!(names(&replay, "prefix=o&state=running,failed").await, ["other"]);
    assert_eq!(names(&replay, "sort=-messages&limit=3").await, ["job-6", "job-4", "job-5"]);
    assert_eq!(names(&replay, "started_before=2020-01-01T00:00:00Z").await, [""; 0]);

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let (_, page) = get(&replay, &format!("/v1/runs?sort=bytes&limit=3&page_token={token}")).await;
        paged.extend(page["runs"].as_array().unwrap().iter().map(|run| run["run_id"].clone()));
        page["next_page_token"].as_str().unwrap().clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(json!(paged), json!(names(&replay, "sort=bytes").await));
    for (path, named) in [
        ("/v1/runs?sort=age", "sort"),
        ("/v1/runs?limit=0", "limit"),
        ("/v1/runs?page_token=x", "page_token"),
        ("/v1/runs?colour=red", "colour"),
        ("/v1/runs/r?colour=red", "colour"),
        ("/v1/runs/a%20b", "run"),
        ("/v1/runs/r/dead?after=x", "after"),
    ] {
        let (status, problem) = get(&replay, path).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_rebuilt_equals_the_one_kept_live_also_after_kills() {
    let redis = Redis::start().await;
    let mut replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let mut pens = [Pen::new(&redis.url(), "r", "a"), Pen::new(&redis.url(), "r", "b")];
    for round in 0..6 {
        for pen in &mut pens {
            pen.state(State::Running).await;
            for number in 0..100 {
                pen.say(&format!("{round} é {number}\n")).await;
                pen.write(Channel::Metrics, &[Json::of(&json!({"n": number}))]).await;
            }
            pen.write(Channel::Logs, &[Json::of(&json!({"level": "error", "n": round}))]).await;
        }
        replay.kill9_and_start();
    }
    for pen in &mut pens {
        pen.state(State::Succeeded).await;
    }
    eventually("replay answers", SOON, async || http_get(&replay.url("/v1/runs"), &[]).await.ok()).await;
    let live = until(&replay, "r", |run| run["cursor"] == "a:600.6.7.600,b:600.6.7.600").await;
    assert_eq!(live["state"], "succeeded");
    let (status, rebuilt) = post(&replay, "/v1/runs/r/rebuild").await;
    assert_eq!((status, &rebuilt["equal"], &rebuilt["replaced"]), (200, &json!(true), &json!(true)));
    assert_eq!(rebuilt["summary"], live);
    assert_eq!((&live["channels"]["output"]["messages"], &live["missing"]), (&json!(1200), &json!(0)));
    assert_eq!(post(&replay, "/v1/runs/none/rebuild").await.0, 404);

    // What is gone since does not make the read model poorer.
    redis.command(&["DEL", "run:{r}:output:a"]).await.unwrap();
    let (_, poorer) = post(&replay, "/v1/runs/r/rebuild").await;
    assert_eq!((&poorer["equal"], &poorer["replaced"]), (&json!(false), &json!(false)));
    assert_eq!(poorer["summary"], live);
    // What was damaged is mended.
    redis.command(&["DEL", "run:{r}:summary"]).await.unwrap();
    let (_, mended) = post(&replay, "/v1/runs/r/rebuild").await;
    assert_eq!((&mended["equal"], &mended["summary"]["missing"]), (&json!(true), &json!(600)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_deleted_and_begun_anew_is_the_new_one() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let other = Replay::start_with(&redis.url(), &[QUICK]).await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    for _ in 0..10 {
        pen.say("old ").await;
    }
    for replica in [&replay, &other] {
        until(replica, "r", |run| run["cursor"] == "a:10").await;
    }
    assert!(pen.bus().delete_run(&RunId::new("r").unwrap()).await.unwrap());
    assert_eq!(redis.command(&["EXISTS", "run:{r}:summary"]).await.unwrap().text(), "0");
    Pen::new(&redis.url(), "r", "a").say("new").await;
    for replica in [&replay, &other] {
        let summary = until(replica, "r", |run| run["cursor"] == "a:1").await;
        assert_eq!(summary["variations"]["a"]["last_words"], "new");
    }
    eventually("it is kept", SOON, async || {
        let kept = redis.command(&["HGET", "run:{r}:summary", "total"]).await.unwrap().text();
        (kept == "1").then_some(())
    })
    .await;
    pen.bus().delete_run(&RunId::new("r").unwrap()).await.unwrap();
    eventually("it is forgotten", SOON, async || {
        (get(&replay, "/v1/runs/r").await.0 == 404 && names(&replay, "").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_read_model_never_replaces_a_newer_one_and_trimmed_messages_are_missing() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    for _ in 0..300 {
        pen.say("x").await;
    }
    redis.command(&["XTRIM", "run:{r}:output:a", "MINID", "200"]).await.unwrap();
    redis.command(&["XADD", "run:{r}:status", "*", "m", "no batch at all"]).await.unwrap();
    let replicas =
        [Replay::start_with(&redis.url(), &[QUICK]).await, Replay::start_with(&redis.url(), &[QUICK]).await];
    for replica in &replicas {
        let summary = until(replica, "r", |run| run["cursor"] == "a:300").await;
        assert_eq!(
            (&summary["missing"], &summary["channels"]["output"]["messages"]),
            (&json!(199), &json!(101))
        );
    }
    let (bus, run) = (pen.bus(), RunId::new("r").unwrap());
    let kept = bus.summary(&run).await.unwrap();
    let store = async |cursor: &str| {
        bus.store_summary(&run, &cursor.parse().unwrap(), Bytes::from("x")).await.unwrap()
    };
    assert_eq!(store("a:299").await, runcast_bus::SummaryStored::Older);
    assert_eq!(store("a:301").await, runcast_bus::SummaryStored::Ahead);
    assert_eq!(store("a:1,b:400").await, runcast_bus::SummaryStored::Ahead);
    assert_eq!(bus.summary(&run).await.unwrap(), kept);
    let ttl: i64 = redis.command(&["TTL", "run:{r}:summary"]).await.unwrap().text().parse().unwrap();
    assert!((1..=600).contains(&ttl), "as long as the run: {ttl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_does_not_stop_the_others_and_one_that_is_over_is_not_read_again() {
    let redis = Redis::start().await;
    let mut long = Pen::new(&redis.url(), "long", "a");
    let lines: Vec<Json> = (0..500).map(|n| Json::string(&format!("{n} {}", "x".repeat(200)))).collect();
    for _ in 0..400 {
        long.write(Channel::Output, &lines).await;
    }
    let mut short = Pen::new(&redis.url(), "short", "a");
    short.say("here").await;
    short.state(State::Succeeded).await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    until(&replay, "short", |run| run["state"] == "succeeded").await;
    let (_, other) = get(&replay, "/v1/runs/long").await;
    let behind = other["channels"]["output"]["messages"].as_u64().unwrap_or(0);
    assert!(behind < 200_000, "the short one came first");
    long.state(State::Succeeded).await;
    let summary = until(&replay, "long", |run| run["state"] == "succeeded").await;
    assert_eq!(summary["channels"]["output"]["messages"], 200_000);

    let reads = async || {
        let stats = redis.info("cmdstat_xrange").await;
        stats.split(',').find_map(|field| field.strip_prefix("calls=")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = reads().await;
    let begun = std::time::Instant::now();
    eventually("some time", SOON, async || (begun.elapsed() > Duration::from_secs(2)).then_some(())).await;
    assert!(reads().await <= before + 4, "{before} {}", reads().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_put_back() {
    const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 1000 };
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("one ").await;
    let run = RunId::new("r").unwrap();
    let lane: Lane = "output/v".parse().unwrap();
    let message = runcast_testkit::message(
        &run,
        &"v".parse().unwrap(),
        Channel::Output,
        Sequence::NONE,
        Json::string("two"),
    );
    for number in 0..25 {
        let original =
            if number == 0 { message.to_line().into() } else { Bytes::from_static(b"no \xff message") };
        let letter = DeadLetter {
            reason: format!("reason {number}"),
            time: timestamp::now(),
            lane: lane.clone(),
            sequence: None,
            original,
        };
        pen.bus().bury(&run, &letter, LIMITS).await.unwrap();
    }
    let (mut letters, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = get(&replay, &format!("/v1/runs/r/dead?limit=10&after={after}")).await;
        letters.extend(page["dead_letters"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(letters.len(), 25);
    assert_eq!(
        (&letters[3]["reason"], &letters[3]["original"]),
        (&json!("reason 3"), &json!("no \u{fffd} message"))
    );
    assert_eq!((&letters[3]["lane"], &letters[3]["sequence"]), (&json!("output/v"), &Value::Null));

    let requeue = |at: usize| format!("/v1/runs/r/dead/{}/requeue", letters[at]["id"].as_str().unwrap());
    assert_eq!(post(&replay, &requeue(0)).await, (200, json!({"sequence": 2})));
    assert_eq!(post(&replay, &requeue(0)).await.0, 404, "it is there once");
    assert_eq!(post(&replay, &requeue(1)).await.0, 409, "it is no message");
    assert_eq!(post(&replay, "/v1/runs/r/dead/x/requeue").await.0, 400);
    let summary = until(&replay, "r", |run| run["cursor"] == "v:2").await;
    assert_eq!(summary["variations"]["v"]["last_words"], "one two");
    assert_eq!(get(&replay, "/v1/runs/none/dead").await, (200, json!({"dead_letters": [], "next": null})));
}
