//! Snapshots: a real replay writes them, a real fan-out reads them, and viewers see no difference but in
//! what it costs.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_bus::{Bus, SnapshotAppended, SnapshotEntry};
use runcast_protocol::{Channel, Json, Lane, RunId, Sequence, State};
use runcast_testkit::{Fanout, Pen, Redis, Replay, eventually};

const SOON: Duration = Duration::from_secs(30);
const QUICK: (&str, &str) = ("RUNCAST__RUNS__INTERVAL", "20ms");
const KEY: &str = "run:{r}:snapshot:output/a";

fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn lane() -> Lane {
    "output/a".parse().unwrap()
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// Says `bytes` of text in messages of `size` each, in batches of a hundred, and returns it. The text does
/// not depend on the size.
async fn say(pen: &mut Pen, bytes: usize, size: usize) -> String {
    let mut said = String::new();
    let mut words = (0u64..).flat_map(|n| {
        let number = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        format!("{number:x} é words\n").chars().collect::<Vec<_>>()
    });
    while said.len() < bytes {
        let texts: Vec<String> = (0..100).map(|_| words.by_ref().take(size).collect()).collect();
        let batch: Vec<Json> = texts.iter().map(|text| Json::string(text)).collect();
        said.extend(texts);
        pen.write(Channel::Output, &batch).await;
    }
    said
}

async fn until_snapshots(bus: &Bus, name: &str, upto: impl Fn(Sequence) -> bool) -> Sequence {
    eventually("snapshots", SOON, async || {
        let tail = bus.snapshot_tail(&run(name), &lane()).await.unwrap();
        upto(tail).then_some(tail)
    })
    .await
}

/// The text that a viewer gets who joins with a snapshot, of a run that is over; and the gaps.
async fn joined(fanout: &Fanout, name: &str) -> (String, Vec<(u64, u64)>) {
    let mut viewer = fanout.viewer(name, "from=snapshot");
    viewer.watch_to_end(SOON).await.unwrap();
    let gaps = viewer.history.gaps.iter().map(|gap| (gap.first.get(), gap.last.get())).collect();
    (viewer.history.text("a").to_owned(), gaps)
}

async fn number(redis: &Redis, field: &str) -> u64 {
    redis.info(field).await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_get_the_same_text_with_and_without_and_whenever_they_join() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let other = Replay::start_with(&redis.url(), &[QUICK]).await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    pen.state(State::Running).await;
    let (mut said, mut watching) = (String::new(), Vec::new());
    for _ in 0..12 {
        said += &say(&mut pen, 100_000, 200).await;
        let mut viewer = fanout.viewer("r", "from=snapshot");
        watching.push(tokio::spawn(async move {
            viewer.watch_to_end(SOON).await.unwrap();
            viewer
        }));
    }
    let bus = pen.bus().clone();
    until_snapshots(&bus, "r", |tail| tail.get() > 4000).await;
    said += &say(&mut pen, 50_000, 30).await;
    pen.state(State::Succeeded).await;
    for viewer in watching {
        let viewer = viewer.await.unwrap();
        assert!(viewer.history.text("a") == said && viewer.history.gaps.is_empty());
    }
    drop((replay, other));
    let entries = bus.snapshots(&run("r"), &lane(), Sequence::NONE, 100).await.unwrap();
    assert!(entries.len() >= 3, "{}", entries.len());
    assert_eq!(entries[0].first, sequence(1));
    assert!(entries.windows(2).all(|two| two[1].first == two[0].last.next()));
    let stored: String = entries.iter().map(|entry| entry.text.as_str()).collect();
    assert!(said.starts_with(&stored));

    assert!(joined(&fanout, "r").await == (said.clone(), Vec::new()));
    redis.command(&["DEL", KEY]).await.unwrap();
    assert!(joined(&fanout, "r").await == (said, Vec::new()), "without them it is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_costs_the_text_and_not_its_history() {
    let redis = Redis::start().await;
    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    let mut costs = Vec::new();
    let fanout = Fanout::start(&redis.url()).await;
    for (name, size) in [("few", 2000), ("many", 25)] {
        let mut pen = Pen::new(&redis.url(), name, "a");
        let said = say(&mut pen, 2_000_000, size).await;
        let last = eventually("all of it", SOON, async || {
            pen.bus().lanes(&run(name)).await.ok()?.get(&lane()).map(|at| at.last)
        })
        .await;
        // What is left of it is less than one entry.
        until_snapshots(pen.bus(), name, |tail| (last.get() - tail.get()) * size as u64 <= 300 << 10).await;
        pen.state(State::Succeeded).await;
        costs.push((name, size, said));
    }
    drop(replay);
    // The feeds are opened first, so that only the viewers are counted.
    for (name, _, said) in &costs {
        assert!(joined(&fanout, name).await.0 == *said);
    }
    let mut measured = Vec::new();
    for (name, _, said) in &costs {
        let before = (
            number(&redis, "total_net_output_bytes").await,
            number(&redis, "total_commands_processed").await,
        );
        assert!(joined(&fanout, name).await.0 == *said);
        let after = (
            number(&redis, "total_net_output_bytes").await,
            number(&redis, "total_commands_processed").await,
        );
        measured.push((after.0 - before.0, after.1 - before.1));
    }
    // The same without snapshots.
    redis.command(&["DEL", "run:{few}:snapshot:output/a", "run:{many}:snapshot:output/a"]).await.unwrap();
    let before = number(&redis, "total_net_output_bytes").await;
    assert!(joined(&fanout, "many").await.0 == costs[1].2);
    let without = number(&redis, "total_net_output_bytes").await - before;
    eprintln!(
        "2 MB of text; bytes and commands: few messages {:?}, 80 times as many {:?}; without snapshots {without} bytes",
        measured[0], measured[1]
    );
    let ((few, _), (many, commands)) = (measured[0], measured[1]);
    // The tail that has no entry yet is read as messages.
    assert!(many < few + few / 2 + 600_000, "{few} {many}");
    assert!(many * 2 < without, "{many} {without}");
    assert!(commands < 150, "{commands}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_told_as_a_gap_and_text_is_not_joined_over_it() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    let mut said = String::new();
    for round in 0..3 {
        said += &say(&mut pen, 300_000, 300).await;
        if round < 2 {
            // What cannot be read as messages is a hole in the middle.
            let next = pen.bus().lanes(&run("r")).await.unwrap()[&lane()].last;
            pen.say("never heard").await;
            let id = format!("{}-0", next.next());
            redis.command(&["XDEL", "run:{r}:output:a", &id]).await.unwrap();
        }
    }
    pen.state(State::Succeeded).await;
    let plain = joined(&fanout, "r").await;
    assert!(plain.0 == said && plain.1.len() == 2, "{:?}", plain.1);

    let replay = Replay::start_with(&redis.url(), &[QUICK]).await;
    until_snapshots(pen.bus(), "r", |tail| tail.get() > 2500).await;
    drop(replay);
    let entries = pen.bus().snapshots(&run("r"), &lane(), Sequence::NONE, 100).await.unwrap();
    for (first, last) in &plain.1 {
        assert!(entries.iter().all(|entry| entry.last < sequence(*first) || entry.first > sequence(*last)));
    }
    assert!(joined(&fanout, "r").await == plain);

    // What the lane itself has no more is still had.
    redis.command(&["XTRIM", "run:{r}:output:a", "MINID", "2500"]).await.unwrap();
    assert!(joined(&fanout, "r").await == plain);
    // One that is not one: from there on the lane is read.
    redis.command(&["XADD", KEY, "100000-0", "z", "x"]).await.unwrap();
    assert!(joined(&fanout, "r").await == plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_taken_only_where_the_snapshots_stand() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    for _ in 0..50 {
        pen.say("x").await;
    }
    let bus = pen.bus();
    let append = async |after: u64, first: u64, last: u64| {
        let entry = SnapshotEntry { first: sequence(first), last: sequence(last), text: format!("{first}") };
        bus.append_snapshot(&run("r"), &lane(), sequence(after), &entry).await.unwrap()
    };
    assert_eq!(append(5, 6, 10).await, SnapshotAppended::Moved(Sequence::NONE));
    assert_eq!(append(0, 1, 10).await, SnapshotAppended::Done);
    assert_eq!(append(0, 1, 10).await, SnapshotAppended::Moved(sequence(10)), "a repeat");
    assert_eq!(append(10, 10, 20).await, SnapshotAppended::Moved(sequence(10)), "one over another");
    assert_eq!(append(10, 15, 20).await, SnapshotAppended::Done, "a hole that is declared");
    assert_eq!(append(20, 21, 51).await, SnapshotAppended::Ahead(sequence(50)));
    let ttl: i64 = redis.command(&["TTL", KEY]).await.unwrap().text().parse().unwrap();
    assert!((1..=600).contains(&ttl), "as long as the run: {ttl}");
    assert_eq!(bus.retain(&run("r"), Duration::from_secs(5)).await.unwrap(), 3);
    let ttl: i64 = redis.command(&["TTL", KEY]).await.unwrap().text().parse().unwrap();
    assert!((1..=5).contains(&ttl), "retention is of snapshots too: {ttl}");
    assert!(bus.delete_run(&run("r")).await.unwrap());
    assert_eq!(redis.command(&["EXISTS", KEY]).await.unwrap().text(), "0");
}
