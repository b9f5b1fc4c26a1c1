//! The real fan-out in front of a real Redis that has lost what a run said. The test itself is who keeps
//! the archive: it answers what it is asked through Redis, as runcast-replay does.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, EntryId, Limits, PastRequests, RedisConfig, Subscriber};
use runcast_protocol::{
    Batch, BatchWriter, Channel, Cursor, Entry, Json, Lane, PastRequest, PastRun, RunId, RunState, Sequence,
    State,
};
use runcast_testkit::{Fanout, Pen, Redis, Viewer, eventually, http_get, message};

const SOON: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(60);

/// What was archived of a run.
#[derive(Clone)]
struct Archive {
    run: RunId,
    lanes: BTreeMap<Lane, Vec<Entry>>,
    /// Messages in a page.
    page: usize,
}

impl Archive {
    /// All that Redis has of a run.
    async fn of(bus: &Bus, run: &str, page: usize) -> Self {
        let run: RunId = run.parse().unwrap();
        let mut lanes: BTreeMap<Lane, Vec<Entry>> = BTreeMap::new();
        for lane in bus.lanes(&run).await.unwrap().into_keys() {
            let all = bus.read(&run, &lane, EntryId::default(), 100_000).await.unwrap();
            let batches = all.batches.into_iter().map(|payload| Batch::parse(payload).unwrap());
            let own = batches.filter(|batch| batch.lane == lane).flat_map(|batch| batch.entries).collect();
            lanes.insert(lane, own);
        }
        Self { run, lanes, page }
    }

    fn cursor(&self) -> Cursor {
        let last = |(lane, entries): (&Lane, &Vec<Entry>)| (lane.clone(), entries.last().unwrap().sequence);
        self.lanes.iter().map(last).collect()
    }

    fn answer(&self, request: &PastRequest) -> Bytes {
        if request.run != self.run {
            return Bytes::new();
        }
        let Some((lane, after)) = &request.page else {
            let mut state = RunState::default();
            self.lanes.iter().filter(|(lane, _)| lane.channel == Channel::Status).for_each(
                |(lane, entries)| {
                    state.apply(lane, entries);
                },
            );
            let (variations, expected) = (state.variations().clone(), state.expected());
            return PastRun { cursor: self.cursor(), variations, expected }.to_json().into();
        };
        let mut writer = BatchWriter::default();
        let entries = self.lanes.get(lane).into_iter().flatten();
        for entry in entries.filter(|entry| entry.sequence > *after).take(self.page) {
            writer.push(&entry.line);
        }
        writer.finish(1024)
    }
}

/// Who answers; what was taken by it, by the answers' keys.
struct Keeper {
    restored: Arc<Mutex<BTreeMap<String, usize>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    async fn start(redis: &Redis, archive: Option<Archive>) -> Self {
        let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
        let subscriber = Subscriber::connect(&bus).unwrap();
        eventually("redis answers", SOON, async || bus.ping().await.ok()).await;
        let mut requests = PastRequests::listen(&subscriber).await;
        bus.tell_replay_alive(TTL).await.unwrap();
        let restored: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let counts = restored.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok(request) = requests.next().await else { continue };
                if bus.take_past(&request).await.unwrap() {
                    *counts.lock().unwrap().entry(request.key()).or_default() += 1;
                    let answer = archive.as_ref().map_or(Bytes::new(), |archive| archive.answer(&request));
                    bus.answer_past(&request, answer, TTL).await.unwrap();
                }
            }
        });
        Self { restored, task }
    }

    fn restored(&self) -> BTreeMap<String, usize> {
        self.restored.lock().unwrap().clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A run of two variations that is over; returns what it said.
async fn ended_run(redis: &Redis, run: &str, messages: usize, page: usize) -> Archive {
    let mut bus = None;
    for variation in ["var-1", "var-2"] {
        let mut pen = Pen::new(&redis.url(), run, variation);
        pen.state(State::Running).await;
        for first in (0..messages).step_by(50) {
            let word = |number| Json::string(&format!("{variation} {number} \"é\"\n"));
            let words: Vec<Json> = (first..messages.min(first + 50)).map(word).collect();
            pen.write(Channel::Output, &words).await;
        }
        pen.write(Channel::Logs, &[Json::of(&serde_json::json!({"message": "a line"}))]).await;
        bus = Some(pen.bus().clone());
    }
    for variation in ["var-1", "var-2"] {
        Pen::new(&redis.url(), run, variation).state(State::Succeeded).await;
    }
    Archive::of(&bus.unwrap(), run, page).await
}

async fn empty(redis: &Redis) {
    redis.command(&["FLUSHALL"]).await.unwrap();
}

/// Watches to the end; the lines that came, by lane.
async fn lines(viewer: &mut Viewer) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    assert_eq!(viewer.connect().await.unwrap(), 200);
    while let Some(event) = viewer.next().await.unwrap() {
        if !matches!(event.event.as_str(), "end" | "gap" | "start" | "snapshot") {
            let batch = Batch::parse(event.data.clone().into_bytes().into()).unwrap();
            lines.entry(batch.lane.to_string()).or_default().push(event.data);
        }
    }
    assert!(viewer.history.end.is_some(), "the end is told");
    assert!(viewer.history.gaps.is_empty(), "{:?}", viewer.history.gaps);
    lines
}

/// The archive's lines after a cursor.
fn lines_after(archive: &Archive, cursor: &Cursor) -> BTreeMap<String, Vec<String>> {
    let mut lines = BTreeMap::new();
    for (lane, entries) in &archive.lanes {
        let rest = entries.iter().filter(|entry| entry.sequence > cursor.position(lane));
        let rest: Vec<_> = rest.map(|entry| String::from_utf8(entry.line.to_vec()).unwrap()).collect();
        if !rest.is_empty() {
            lines.insert(lane.to_string(), rest);
        }
    }
    lines
}

#[tokio::test]
async fn a_run_that_redis_knows_nothing_of_is_seen_as_ever() {
    let redis = Redis::start().await;
    let archive = ended_run(&redis, "gone", 400, 70).await;
    empty(&redis).await;
    let _keeper = Keeper::start(&redis, Some(archive.clone())).await;
    let fanout = Fanout::start(&redis.url()).await;
    for after in ["", "var-1:399.1,var-2:7", "var-1:123.0.1,var-2:400.1.2"] {
        let mut viewer = fanout.viewer("gone", &format!("after={after}&merge=false"));
        let cursor: Cursor = after.parse().unwrap();
        viewer.history.begin_at(&cursor);
        assert_eq!(lines(&mut viewer).await, lines_after(&archive, &cursor), "after {after:?}");
        assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Succeeded);
        assert_eq!(viewer.last_event_id(), archive.cursor().to_string());
        assert_eq!(viewer.connect().await.unwrap(), 204, "nothing is left to come");
    }
    let mut snapshot = fanout.viewer("gone", "from=snapshot");
    lines(&mut snapshot).await;
    let mut whole = fanout.viewer("gone", "channels=output");
    lines(&mut whole).await;
    for variation in ["var-1", "var-2"] {
        assert!(whole.history.text(variation).ends_with("399 \"é\"\n"));
        assert_eq!(snapshot.history.text(variation), whole.history.text(variation));
    }
    let (status, _, body) = http_get(&fanout.url("/v1/runs/gone"), &[]).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, info["state"].as_str()), (200, Some("succeeded")));
    assert_eq!(info["cursor"].as_str(), Some(&*archive.cursor().to_string()));
    assert_eq!(info["variations"]["var-2"]["positions"]["output"].as_u64(), Some(400));
}

#[tokio::test]
async fn what_redis_has_lost_of_a_run_at_work_comes_from_the_archive() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.state(State::Running).await;
    for number in 0..300 {
        pen.say(&format!("{number} ")).await;
    }
    // The archive is behind, as it is with a run at work.
    let archive = Archive::of(pen.bus(), "r", 64).await;
    let _keeper = Keeper::start(&redis, Some(archive)).await;
    let fanout = Fanout::start(&redis.url()).await;
    redis.command(&["XTRIM", "run:{r}:output:var-1", "MINID", "200"]).await.unwrap();
    let text: String = (0..300).map(|number| format!("{number} ")).collect();
    for lost in ["trimmed", "evicted"] {
        let mut viewer = fanout.viewer("r", "");
        assert_eq!(viewer.connect().await.unwrap(), 200);
        while viewer.history.text("var-1") != text {
            viewer.next().await.unwrap().unwrap();
        }
        assert!(viewer.history.gaps.is_empty(), "{lost}: {:?}", viewer.history.gaps);
        redis.command(&["DEL", "run:{r}:output:var-1"]).await.unwrap();
    }
    // What was said after the archive was last written to is lost for good.
    pen.say("lost ").await;
    redis.command(&["DEL", "run:{r}:output:var-1"]).await.unwrap();
    pen.say("kept ").await;
    pen.state(State::Succeeded).await;
    // A replica that has it no longer in a ring.
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("r", "");
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.text("var-1"), text + "kept ");
    let gaps: Vec<_> = viewer.history.gaps.iter().map(|gap| (gap.first.get(), gap.last.get())).collect();
    assert_eq!(gaps, [(301, 301)]);
}

#[tokio::test]
async fn a_run_whose_states_redis_has_lost_ends_all_the_same() {
    let redis = Redis::start().await;
    let archive = ended_run(&redis, "r", 10, 70).await;
    redis.command(&["DEL", "run:{r}:status"]).await.unwrap();
    let _keeper = Keeper::start(&redis, Some(archive.clone())).await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("r", "merge=false");
    assert_eq!(lines(&mut viewer).await, lines_after(&archive, &Cursor::default()));
    assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Succeeded);
    assert_eq!(viewer.connect().await.unwrap(), 204);
}

#[tokio::test]
async fn many_viewers_of_the_same_page_cause_one_restore() {
    let redis = Redis::start().await;
    let archive = ended_run(&redis, "gone", 150, 50).await;
    empty(&redis).await;
    let keeper = Keeper::start(&redis, Some(archive)).await;
    let fanouts = [Fanout::start(&redis.url()).await, Fanout::start(&redis.url()).await];
    let mut viewers = tokio::task::JoinSet::new();
    for number in 0..500 {
        let mut viewer = fanouts[number % 2].viewer("gone", "channels=output");
        viewers.spawn(async move {
            viewer.watch_to_end(SOON).await.unwrap();
            assert!(viewer.history.gaps.is_empty());
            assert_eq!(viewer.history.messages, 300);
        });
    }
    viewers.join_all().await;
    let restored = keeper.restored();
    let pages = |variation| [0, 50, 100].map(|after| format!("run:{{gone}}:past:output/{variation}:{after}"));
    let expected = pages("var-1").into_iter().chain(pages("var-2")).chain(["run:{gone}:past".to_owned()]);
    assert_eq!(restored, expected.map(|key| (key, 1)).collect());
}

#[tokio::test]
async fn a_run_that_nobody_knows_is_asked_for_once_and_waited_for() {
    let redis = Redis::start().await;
    let keeper = Keeper::start(&redis, None).await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewers = Vec::new();
    for query in ["", "from=now", "variations=var-1", "channels=output,status"].repeat(10) {
        let mut viewer = fanout.viewer("later", query);
        assert_eq!(viewer.connect().await.unwrap(), 200);
        viewers.push(viewer);
    }
    let mut pen = Pen::new(&redis.url(), "later", "var-1");
    pen.state(State::Running).await;
    pen.say("here").await;
    pen.state(State::Succeeded).await;
    for viewer in &mut viewers {
        viewer.watch_to_end(SOON).await.unwrap();
        assert_eq!(viewer.history.text("var-1"), "here");
    }
    assert_eq!(keeper.restored(), [("run:{later}:past".to_owned(), 1)].into());
    assert_eq!(http_get(&fanout.url("/v1/runs/none"), &[]).await.unwrap().0, 404);
}

#[tokio::test]
async fn who_keeps_the_archive_may_come_later_than_the_viewer() {
    let redis = Redis::start().await;
    let archive = ended_run(&redis, "gone", 100, 70).await;
    empty(&redis).await;
    let settings = [("RUNCAST__FEED__CHECK_INTERVAL", "100ms")];
    let fanout = Fanout::start_with(&redis.url(), &settings).await;
    let mut viewer = fanout.viewer("gone", "");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    let _keeper = Keeper::start(&redis, Some(archive)).await;
    viewer.watch_to_end(SOON).await.unwrap();
    assert!(viewer.history.gaps.is_empty());
    assert_eq!(viewer.history.messages, 206);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_so_long_and_heartbeats_go_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    for _ in 0..3 {
        pen.say("lost").await;
    }
    redis.command(&["XTRIM", "run:{r}:output:var-1", "MINID", "3"]).await.unwrap();
    pen.bus().tell_replay_alive(TTL).await.unwrap();
    let settings = [("RUNCAST__SSE__HEARTBEAT", "50ms"), ("RUNCAST__PAST__WAIT", "700ms")];
    let fanout = Fanout::start_with(&redis.url(), &settings).await;
    let begun = std::time::Instant::now();
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", fanout.port())).await.unwrap();
    socket.write_all(b"GET /v1/runs/r/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    let has = |seen: &[u8], what: &[u8]| seen.windows(what.len()).filter(|window| *window == what).count();
    while has(&seen, b"event: output") == 0 {
        let mut buffer = [0; 1024];
        let count = tokio::time::timeout(SOON, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(has(&seen, b"event: gap"), 1);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    assert!(has(&seen, b"2\r\n:\n\r\n") >= 3, "heartbeats while it waits");
}

#[tokio::test]
async fn a_run_that_goes_on_in_an_emptied_redis_is_one_with_what_is_archived() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.state(State::Running).await;
    pen.write(Channel::Output, &["a", "b", "c"].map(Json::string)).await;
    let archive = Archive::of(pen.bus(), "r", 2).await;
    empty(&redis).await;
    let _keeper = Keeper::start(&redis, Some(archive)).await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("r", "");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    while viewer.history.text("var-1") != "abc" {
        viewer.next().await.unwrap().unwrap();
    }
    // As a sidecar does that has let go of what was safe.
    let (run, status): (RunId, Lane) = ("r".parse().unwrap(), "status/var-1".parse().unwrap());
    let limits = Limits { ttl: TTL, entries: 1000 };
    let content = Json::of(&serde_json::json!({"state": "failed"}));
    for (lane, after, content) in
        [("output/var-1".parse().unwrap(), 3, Json::string("d")), (status, 1, content)]
    {
        let after = Sequence::new(after).unwrap();
        let lane: Lane = lane;
        let first = after.next();
        let line = message(&run, &"var-1".parse().unwrap(), lane.channel, first, content).to_line();
        let mut writer = BatchWriter::default();
        writer.push(&line);
        let (run, batch) = (run.clone(), writer.finish(4096));
        let append = Append { run, lane, epoch: 7, first, last: first, batch, after: Sequence::NONE };
        let done = pen.bus().append(append, limits).await.unwrap();
        assert_eq!(done, Appended::Done { last: first, epoch: 7 });
    }
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.text("var-1"), "abcd");
    assert!(viewer.history.gaps.is_empty());
    assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Failed);
    // Who comes now gets it all as well: Redis stands where the archive's lanes end.
    let mut late = fanout.viewer("r", "channels=output");
    late.watch_to_end(SOON).await.unwrap();
    assert_eq!((late.history.text("var-1"), late.history.gaps.len()), ("abcd", 0));
}

#[tokio::test]
async fn a_run_that_begins_anew_wins_over_what_is_archived() {
    let redis = Redis::start().await;
    let archive = ended_run(&redis, "again", 20, 70).await;
    empty(&redis).await;
    let _keeper = Keeper::start(&redis, Some(archive)).await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("again", "");
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.messages, 2 * 23);
    let mut pen = Pen::new(&redis.url(), "again", "var-1");
    pen.state(State::Running).await;
    pen.say("new").await;
    let mut late = fanout.viewer("again", "");
    assert_eq!(late.connect().await.unwrap(), 200);
    pen.state(State::Cancelled).await;
    late.watch_to_end(SOON).await.unwrap();
    assert_eq!((late.history.text("var-1"), late.history.messages), ("new", 3));
    assert_eq!(late.history.end.as_ref().unwrap().state, State::Cancelled);
}
