//! What the tests of the archive share.

#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Bus, Found, Item, LaneReader, RedisConfig, Scan};
use runcast_protocol::{Channel, Json, Lane, RunId, Sequence, State};
use runcast_replay::archive::{Archive, ArchivedRun};
use runcast_replay::config::{ArchiveConfig, Config};
use runcast_testkit::{Pen, Redis, Replay, eventually};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The lines of each lane.
pub(crate) type Lines = BTreeMap<Lane, Vec<Bytes>>;

pub(crate) fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

pub(crate) fn config(url: &str) -> ArchiveConfig {
    let mut config = Config::load(None).unwrap().archive;
    url.clone_into(&mut config.url);
    config
}

/// The archive, seen past the service.
pub(crate) fn open(url: &str) -> Archive {
    Archive::open(&config(url)).unwrap()
}

pub(crate) fn run_id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

pub(crate) fn bus(redis: &Redis) -> Bus {
    Bus::connect(&RedisConfig::new(&redis.url())).unwrap()
}

/// A service that looks ten times a second, with further settings.
pub(crate) async fn replay(redis: &Redis, url: &str, settings: &[(&str, &str)]) -> Replay {
    let mut all = vec![("RUNCAST__ARCHIVE__URL", url), ("RUNCAST__ARCHIVE__INTERVAL", "100ms")];
    all.extend(settings);
    Replay::start_with(&redis.url(), &all).await
}

/// Says `count` messages in batches, and some logs, metrics and statuses beside them.
pub(crate) async fn say(pen: &mut Pen, count: usize) {
    pen.state(State::Running).await;
    for batch in 0..count.div_ceil(50) {
        let words: Vec<Json> = (0..50.min(count - batch * 50))
            .map(|n| Json::string(&format!("wörd {n} of batch {batch}\n\"{}\"", "é x ".repeat(20))))
            .collect();
        pen.write(Channel::Output, &words).await;
        pen.write(Channel::Logs, &[Json::parse(r#"{ "odd" :  1e2 }"#).unwrap()]).await;
        pen.write(Channel::Metrics, &[Json::parse("{\"n\":1}").unwrap()]).await;
    }
}

/// All that Redis has of a run.
pub(crate) async fn kept(bus: &Bus, run: &str) -> Lines {
    let run = run_id(run);
    let mut all = Lines::new();
    for (lane, state) in bus.lanes(&run).await.unwrap() {
        let mut reader = LaneReader::new(lane.clone(), Sequence::NONE, Scan::default());
        let lines = all.entry(lane).or_default();
        while reader.position() < state.last {
            let Found::Items(items) = reader.page(bus, &run, state.last).await.unwrap() else { break };
            lines.extend(items.into_iter().filter_map(|item| match item {
                Item::Message(entry) => Some(entry.line),
                Item::Gap(_) => None,
            }));
        }
    }
    all
}

/// All that the archive has of a run, once read forwards and once backwards.
pub(crate) async fn stored(archived: &ArchivedRun) -> Lines {
    let mut all = Lines::new();
    for (lane, last) in archived.cursor().lanes() {
        let mut position = Sequence::NONE;
        let mut forwards = Vec::new();
        loop {
            let entries = archived.after(&lane, position).await.unwrap();
            let Some(entry) = entries.last() else { break };
            position = entry.sequence;
            forwards.extend(entries.into_iter().map(|entry| entry.line));
        }
        let mut position = last;
        let mut backwards = Vec::new();
        loop {
            let mut entries = archived.upto(&lane, position).await.unwrap();
            let Some(entry) = entries.first() else { break };
            position = entry.sequence.previous();
            entries.reverse();
            backwards.extend(entries.into_iter().map(|entry| entry.line));
        }
        backwards.reverse();
        assert!(forwards == backwards, "{lane}");
        all.insert(lane, forwards);
    }
    all
}

/// Waits until all of a run is archived.
pub(crate) async fn complete(archive: &Archive, run: &str) -> ArchivedRun {
    eventually(&format!("{run} is archived"), DEADLINE, async || {
        archive.run_now(&run_id(run)).await.unwrap().filter(ArchivedRun::is_complete)
    })
    .await
}

/// All files below a folder, by their paths in it.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), root, found);
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// The files that the log names, and it itself.
pub(crate) fn named(archived: &ArchivedRun) -> Vec<String> {
    let run = archived.id();
    let mut named: Vec<String> =
        archived.commits().iter().map(|commit| format!("runs/{run}/log/{:08}.json", commit.number)).collect();
    let segments = archived.commits().iter().filter_map(|commit| commit.segment.as_ref());
    named.extend(segments.map(|segment| format!("runs/{run}/segments/{}", segment.name)));
    named.sort();
    named
}
