//! Runs that are archived: by real services, from a real Redis, to a folder.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod archived;

use std::time::Duration;

use archived::*;
use runcast_protocol::{Channel, Json, Sequence, State};
use runcast_replay::archive::Removed;
use runcast_testkit::{Pen, Redis, eventually, http_get};

#[tokio::test]
async fn a_run_that_is_over_is_archived_byte_for_byte() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let replay = replay(&redis, &url, &[("RUNCAST__ARCHIVE__RELEASE", "100s")]).await;
    // Also names that mean something to a file system.
    for run in ["run-1", "..", "."] {
        let mut pens = [Pen::new(&redis.url(), run, "a"), Pen::new(&redis.url(), run, "b")];
        say(&mut pens[0], 500).await;
        say(&mut pens[1], 120).await;
        pens[0].state(State::Succeeded).await;
        pens[1].state(State::Failed).await;
        let archived = complete(&open(&url), run).await;
        let said = kept(pens[0].bus(), run).await;
        assert_eq!(said.len(), 8);
        assert!(stored(&archived).await == said, "{run}");
        assert_eq!(archived.summary().cursor(), archived.cursor());

        // Now Redis may let it go.
        let key = format!("run:{{{run}}}:output:a");
        eventually("redis is told to let it go", DEADLINE, async || {
            let ttl = redis.command(&["TTL", &key]).await.unwrap().text();
            (ttl.parse::<i64>().unwrap() <= 100).then_some(())
        })
        .await;
    }
    let (status, _, body) = http_get(&replay.url("/v1/archive?limit=2"), &[]).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["runs"][1]["run_id"], &body["next_page_token"]),
        (200, &"..".into(), &"..".into())
    );
    let (_, _, body) = http_get(&replay.url("/v1/archive?page_token=.."), &[]).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["runs"][0]["messages"], &body["runs"][0]["complete"]), (&650.into(), &true.into()));
    assert_eq!((body["runs"].as_array().unwrap().len(), &body["next_page_token"]), (1, &"".into()));
    assert!(files(folder.path().parent().unwrap()).iter().all(|file| !file.starts_with("log/")));
    assert!(files(folder.path()).iter().all(|file| file.starts_with("runs/")));
}

#[tokio::test]
async fn a_run_at_work_is_archived_in_segments() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let settings = [("RUNCAST__ARCHIVE__SEGMENT_BYTES", "200KiB"), ("RUNCAST__ARCHIVE__SEGMENT_AGE", "1h")];
    let _replay = replay(&redis, &url, &settings).await;
    let mut pen = Pen::new(&redis.url(), "long", "a");
    say(&mut pen, 3000).await;
    let archive = open(&url);
    let early = eventually("some of it is archived", DEADLINE, async || {
        archive.run_now(&run_id("long")).await.unwrap()
    })
    .await;
    assert!(!early.is_complete());
    say(&mut pen, 1000).await;
    pen.state(State::Succeeded).await;
    let archived = complete(&archive, "long").await;
    assert!(archived.commits().len() > 3, "{}", archived.commits().len());
    assert!(stored(&archived).await == kept(pen.bus(), "long").await);
    assert!(archive.verify(&run_id("long")).await.unwrap().unwrap().ok);
    eventually("only what is named is there", DEADLINE, async || {
        (files(folder.path()) == named(&archived)).then_some(())
    })
    .await;
    // The text is found by its bytes.
    let lane = "output/a".parse().unwrap();
    let (mut at, mut last) = (0, Sequence::NONE);
    while at < archived.text_len(&lane) {
        let (after, before) = archived.text_at(&lane, at);
        assert_eq!((after, before), (last, at));
        let entries = archived.after(&lane, after).await.unwrap();
        last = entries.last().unwrap().sequence;
        for entry in &entries {
            let message = runcast_protocol::Message::parse(&entry.line).unwrap();
            at += message.content.to_text().unwrap().len() as u64;
        }
    }
    assert_eq!(archived.text_at(&lane, at), (last, at));
    assert_eq!(last.get(), 4000);
}

#[tokio::test]
async fn two_replicas_make_one_log() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let settings = [("RUNCAST__ARCHIVE__SEGMENT_BYTES", "20KiB"), ("RUNCAST__ARCHIVE__INTERVAL", "10ms")];
    let _replicas = [replay(&redis, &url, &settings).await, replay(&redis, &url, &settings).await];
    let mut pens = Vec::new();
    for n in 0..4 {
        pens.push(Pen::new(&redis.url(), &format!("run-{n}"), "a"));
    }
    for _ in 0..10 {
        for (n, pen) in pens.iter_mut().enumerate() {
            say(pen, 100).await;
            // As if a turn had lapsed: both are at it.
            let _ = redis.command(&["DEL", &format!("run:{{run-{n}}}:archiving")]).await;
        }
    }
    let archive = open(&url);
    let mut all = Vec::new();
    for (n, pen) in pens.iter_mut().enumerate() {
        pen.state(State::Succeeded).await;
        let archived = complete(&archive, &format!("run-{n}")).await;
        assert!(stored(&archived).await == kept(pen.bus(), &format!("run-{n}")).await);
        assert!(archive.verify(archived.id()).await.unwrap().unwrap().ok);
        all.extend(named(&archived));
    }
    eventually("only what is named is there", DEADLINE, async || (files(folder.path()) == all).then_some(()))
        .await;
}

#[tokio::test]
async fn an_archiver_that_is_killed_leaves_nothing_behind_and_loses_nothing() {
    let kills = std::env::var("RUNCAST_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let settings = [
        ("RUNCAST__ARCHIVE__SEGMENT_BYTES", "60KiB"),
        ("RUNCAST__ARCHIVE__INTERVAL", "5ms"),
        ("RUNCAST__ARCHIVE__RELEASE", "60s"),
    ];
    let mut replay = replay(&redis, &url, &settings).await;
    let archive = open(&url);
    let mut commits = 0;
    let mut checked = 0;
    for round in 0..kills {
        // Each run lives through ten kills.
        let run = format!("run-{}", round / 10);
        let mut pen = Pen::new(&redis.url(), &run, &format!("v{round}"));
        let saying = say(&mut pen, 1500);
        let pause = Duration::from_micros(rand::random_range(20_000..400_000));
        // A random moment is what is tested: there is nothing to wait for.
        let ((), ()) = tokio::join!(saying, tokio::time::sleep(pause));
        let _ = redis.command(&["DEL", &format!("run:{{{run}}}:archiving")]).await;
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..60_000))).await;
        replay.kill9_and_start();
        pen.state(State::Succeeded).await;
        // Not let go before all of it is in.
        let ttl = redis.command(&["TTL", &format!("run:{{{run}}}:output:v{round}")]).await.unwrap().text();
        let last = pen.bus().lanes(&run_id(&run)).await.unwrap();
        if ttl.parse::<i64>().unwrap() <= 60 {
            let archived = archive.run_now(&run_id(&run)).await.unwrap().unwrap();
            assert!(last.iter().all(|(lane, state)| archived.cursor().position(lane) == state.last));
        }
        if round % 10 != 9 && round + 1 != kills {
            continue;
        }
        let archived = eventually(&format!("{run} is archived"), DEADLINE, async || {
            let archived = archive.run_now(&run_id(&run)).await.unwrap()?;
            let all = last.iter().all(|(lane, state)| archived.cursor().position(lane) == state.last);
            (archived.is_complete() && all).then_some(archived)
        })
        .await;
        assert!(stored(&archived).await == kept(pen.bus(), &run).await, "{run}");
        let verdict = archive.verify(archived.id()).await.unwrap().unwrap();
        assert!(verdict.ok, "{verdict:?}");
        eventually("only what is named is there", DEADLINE, async || {
            let own = format!("runs/{run}/");
            let there: Vec<_> =
                files(folder.path()).into_iter().filter(|file| file.starts_with(&own)).collect();
            (there == named(&archived)).then_some(())
        })
        .await;
        commits += archived.commits().len();
        checked += verdict.messages;
    }
    eprintln!("{kills} kills: {commits} commits, {checked} messages, all there once");
}

#[tokio::test]
async fn damage_is_found_and_a_run_is_removed() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let replay = replay(&redis, &url, &[]).await;
    let mut pen = Pen::new(&redis.url(), "run-1", "a");
    say(&mut pen, 300).await;
    pen.state(State::Cancelled).await;
    let archive = open(&url);
    let archived = complete(&archive, "run-1").await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let verify = async || {
        let answer = client.post(replay.url("/v1/archive/run-1/verify")).send().await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.bytes().await.unwrap()).unwrap()
    };
    let verdict = verify().await;
    assert_eq!((&verdict["ok"], &verdict["messages"]), (&true.into(), &314.into()));

    // As one Parquet file.
    let (status, _, file) = http_get(&replay.url("/v1/runs/run-1/export?format=parquet"), &[]).await.unwrap();
    assert_eq!((status, &file[..4], &file[file.len() - 4..]), (200, &b"PAR1"[..], &b"PAR1"[..]));

    let segment = named(&archived).pop().unwrap();
    let path = folder.path().join(segment);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let verdict = verify().await;
    assert_eq!(verdict["ok"], false);
    assert!(verdict["problems"][0].as_str().unwrap().contains("sha256"), "{verdict}");
    std::fs::remove_file(&path).unwrap();
    assert!(verify().await["problems"][0].as_str().unwrap().contains("missing"));

    // Not while it would be archived again.
    let remove =
        async || client.delete(replay.url("/v1/archive/run-1")).send().await.unwrap().status().as_u16();
    assert_eq!(remove().await, 409);
    assert!(pen.bus().delete_run(&run_id("run-1")).await.unwrap());
    assert_eq!(remove().await, 204);
    assert_eq!(remove().await, 404);
    assert_eq!(files(folder.path()), Vec::<String>::new());
    assert_eq!(archive.remove(&run_id("run-1")).await.unwrap(), Removed::NotThere);
    for (path, status) in [
        ("/v1/archive/run-1", 404),
        ("/v1/archive/a%20b", 400),
        ("/v1/archive?limit=0", 400),
        ("/v1/archive?x=0", 400),
        ("/v1/runs/run-1/export?format=parquet", 404),
        ("/v1/runs/run-1/export", 400),
    ] {
        assert_eq!(http_get(&replay.url(path), &[]).await.unwrap().0, status, "{path}");
    }
}

#[tokio::test]
async fn what_was_trimmed_before_is_a_gap_and_an_id_that_is_used_again_is_left_alone() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let url = url(folder.path());
    let mut pen = Pen::new(&redis.url(), "run-1", "a");
    say(&mut pen, 500).await;
    redis.command(&["XTRIM", "run:{run-1}:output:a", "MINID", "=", "201-0"]).await.unwrap();
    pen.state(State::Succeeded).await;
    let mut replay = replay(&redis, &url, &[]).await;
    let archive = open(&url);
    let archived = complete(&archive, "run-1").await;
    let gaps: Vec<_> = archived.gaps().map(|gap| (gap.first.get(), gap.last.get())).collect();
    assert_eq!(gaps, [(1, 200)]);
    let lane = "output/a".parse().unwrap();
    assert_eq!(archived.after(&lane, Sequence::NONE).await.unwrap()[0].sequence.get(), 201);
    assert!(archive.verify(archived.id()).await.unwrap().unwrap().ok);

    pen.bus().delete_run(&run_id("run-1")).await.unwrap();
    let mut again = Pen::new(&redis.url(), "run-1", "a");
    again.write(Channel::Output, &[Json::string("other words")]).await;
    again.state(State::Succeeded).await;
    eventually("it is told", DEADLINE, async || {
        let (_, _, text) = http_get(&replay.admin_url("/metrics"), &[]).await.unwrap();
        String::from_utf8_lossy(&text).contains("runcast_replay_archive_reused_total 1").then_some(())
    })
    .await;
    assert_eq!(archive.run_now(archived.id()).await.unwrap().unwrap().number(), archived.number());
    assert!(replay.process().is_running());
}

#[tokio::test]
async fn redis_keeps_what_cannot_be_archived_and_retention_removes_what_is_old() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let below = folder.path().join("archive");
    std::fs::create_dir(&below).unwrap();
    let settings = [("RUNCAST__ARCHIVE__RETENTION", "1s"), ("RUNCAST__ARCHIVE__PROTECT", "100h")];
    let _replay = replay(&redis, &url(&below), &settings).await;
    // No folder can be made where a file is.
    std::fs::write(below.join("runs"), "").unwrap();
    let mut pen = Pen::new(&redis.url(), "run-1", "a");
    say(&mut pen, 100).await;
    pen.state(State::Succeeded).await;
    eventually("redis keeps it", DEADLINE, async || {
        let ttl = redis.command(&["TTL", "run:{run-1}:output:a"]).await.unwrap().text();
        (ttl.parse::<i64>().unwrap() > 99 * 3600).then_some(())
    })
    .await;
    std::fs::remove_file(below.join("runs")).unwrap();
    let archive = open(&url(&below));
    complete(&archive, "run-1").await;
    pen.bus().delete_run(&run_id("run-1")).await.unwrap();
    eventually("it is removed", DEADLINE, async || files(&below).is_empty().then_some(())).await;
}
