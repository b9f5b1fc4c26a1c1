//! The append script against a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, BusError, EntryId, Limits, RedisConfig};
use runcast_protocol::{Batch, BatchWriter, Channel, Json, Lane, RunId, Sequence, VariationId};
use runcast_testkit::{Redis, message};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 1000 };

struct Writer {
    bus: Bus,
    run: RunId,
    lane: Lane,
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

impl Writer {
    fn new(redis: &Redis, lane: &str) -> Self {
        let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
        Self { bus, run: RunId::new("run-1").unwrap(), lane: lane.parse().unwrap() }
    }

    fn batch(&self, first: u64, last: u64) -> Bytes {
        let mut writer = BatchWriter::default();
        let variation = self.lane.writer.variation().unwrap();
        for number in first..=last {
            let content = Json::string(&format!("message {number}"));
            writer
                .push(&message(&self.run, variation, self.lane.channel, sequence(number), content).to_line());
        }
        writer.finish(usize::MAX)
    }

    async fn append(&self, epoch: u64, first: u64, last: u64) -> Result<Appended, BusError> {
        self.append_after(first - 1, epoch, first, last).await
    }

    async fn append_after(
        &self,
        after: u64,
        epoch: u64,
        first: u64,
        last: u64,
    ) -> Result<Appended, BusError> {
        let (run, lane, batch) = (self.run.clone(), self.lane.clone(), self.batch(first, last));
        let (after, first, last) = (sequence(after), sequence(first), sequence(last));
        self.bus.append(Append { run, lane, epoch, first, last, batch, after }, LIMITS).await
    }

    async fn claim(&self) -> (u64, u64) {
        match self.bus.claim(&self.run, &self.lane, LIMITS).await.unwrap() {
            Appended::Done { last, epoch } => (last.get(), epoch),
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self) -> Vec<u64> {
        let page = self.bus.read(&self.run, &self.lane, EntryId::default(), 1000).await.unwrap();
        let batches = page.batches.into_iter().map(|payload| Batch::parse(payload).unwrap());
        let own = batches.filter(|batch| batch.lane == self.lane);
        own.flat_map(|batch| batch.entries.into_iter().map(|entry| entry.sequence.get())).collect()
    }
}

fn done(last: u64, epoch: u64) -> Appended {
    Appended::Done { last: sequence(last), epoch }
}

#[tokio::test]
async fn what_follows_is_appended_and_a_retry_changes_nothing() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    assert_eq!(writer.claim().await, (0, 1));
    for _ in 0..3 {
        assert_eq!(writer.append(1, 1, 3).await.unwrap(), done(3, 1));
    }
    assert_eq!(writer.append(1, 4, 4).await.unwrap(), done(4, 1));
    assert_eq!(writer.read().await, [1, 2, 3, 4]);
    let ids = redis.command(&["XRANGE", "run:{run-1}:output:var-1", "-", "+"]).await.unwrap();
    let ids: Vec<_> = ids.items().iter().map(|entry| entry.items()[0].text()).collect();
    assert_eq!(ids, ["3-0", "4-0"]);
}

#[tokio::test]
async fn what_does_not_follow_is_told_where_redis_stands() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "status/var-1");
    writer.claim().await;
    writer.append(1, 1, 2).await.unwrap();
    assert_eq!(writer.append(1, 4, 5).await.unwrap(), Appended::Rewind { last: sequence(2) });
    // A batch that overlaps must be cut anew too, or part of it would be there twice.
    assert_eq!(writer.append(1, 2, 3).await.unwrap(), Appended::Rewind { last: sequence(2) });
    assert_eq!(writer.read().await, [1, 2]);
    assert_eq!(writer.read().await, [1, 2]);
}

#[tokio::test]
async fn a_hole_is_accepted_only_from_where_the_writer_says() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    writer.claim().await;
    writer.append(1, 1, 2).await.unwrap();
    let stands_at_2 = Appended::Rewind { last: sequence(2) };
    for after in [0, 1, 3, 6] {
        assert_eq!(writer.append_after(after, 1, 7, 8).await.unwrap(), stands_at_2, "after {after}");
    }
    // A batch that overlaps what it claims to follow would be there twice in part.
    assert_eq!(writer.append_after(2, 1, 2, 3).await.unwrap(), stands_at_2);
    for _ in 0..2 {
        assert_eq!(writer.append_after(2, 1, 7, 8).await.unwrap(), done(8, 1), "again is harmless");
    }
    assert_eq!(writer.read().await, [1, 2, 7, 8]);
    // The tail goes, as in a failover: the hole would be larger than the writer said.
    redis.command(&["XTRIM", "run:{run-1}:output:var-1", "MAXLEN", "0"]).await.unwrap();
    redis.command(&["HSET", "run:{run-1}:lanes", "output/var-1", "2 1"]).await.unwrap();
    assert_eq!(writer.append_after(8, 1, 12, 12).await.unwrap(), stands_at_2);
}

#[tokio::test]
async fn an_older_writer_is_fenced() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    let (_, old) = writer.claim().await;
    writer.append(old, 1, 1).await.unwrap();
    let (last, new) = writer.claim().await;
    assert_eq!((last, new), (1, old + 1));
    assert_eq!(writer.append(old, 2, 2).await.unwrap(), Appended::Fenced { epoch: new });
    assert_eq!(writer.append(new, 2, 2).await.unwrap(), done(2, new));
}

#[tokio::test]
async fn writers_that_race_for_a_lane_never_interleave() {
    let redis = Redis::start().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let writer = Writer::new(&redis, "output/var-1");
        tasks.push(tokio::spawn(async move {
            let (mut last, mut epoch) = writer.claim().await;
            for _ in 0..100 {
                match writer.append(epoch, last + 1, last + 2).await.unwrap() {
                    Appended::Done { last: now, .. } => last = now.get(),
                    Appended::Rewind { last: now } => last = now.get(),
                    Appended::Fenced { .. } => (last, epoch) = writer.claim().await,
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let read = Writer::new(&redis, "output/var-1").read().await;
    assert!(read.len() > 10 && read.iter().copied().eq(1..=read.len() as u64), "{read:?}");
}

#[tokio::test]
async fn keys_live_as_long_as_somebody_writes_or_probes() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    writer.claim().await;
    writer.append(1, 1, 1).await.unwrap();
    for key in ["run:{run-1}:output:var-1", "run:{run-1}:lanes"] {
        redis.command(&["EXPIRE", key, "5"]).await.unwrap();
    }
    assert_eq!(writer.bus.probe(&writer.run, &writer.lane, 1, LIMITS).await.unwrap(), done(1, 1));
    for key in ["run:{run-1}:output:var-1", "run:{run-1}:lanes"] {
        let ttl: i64 = redis.command(&["TTL", key]).await.unwrap().text().parse().unwrap();
        assert!(ttl > 50, "{key} {ttl}");
    }
}

#[tokio::test]
async fn a_stream_keeps_about_as_much_as_its_limit() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    writer.claim().await;
    for number in 1..=2500 {
        writer.append(1, number, number).await.unwrap();
    }
    let length: u64 =
        redis.command(&["XLEN", "run:{run-1}:output:var-1"]).await.unwrap().text().parse().unwrap();
    assert!((1000..1300).contains(&length), "{length}");
}

#[tokio::test]
async fn a_lane_whose_bookkeeping_was_evicted_goes_on_where_its_stream_ends() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    writer.claim().await;
    writer.append(1, 1, 5).await.unwrap();
    redis.command(&["DEL", "run:{run-1}:lanes"]).await.unwrap();
    assert_eq!(writer.claim().await, (5, 1));
    assert_eq!(writer.append(1, 6, 6).await.unwrap(), done(6, 1));
}

#[tokio::test]
async fn sequences_stay_exact_up_to_the_largest() {
    let redis = Redis::start().await;
    let writer = Writer::new(&redis, "output/var-1");
    writer.claim().await;
    let max = Sequence::MAX.get();
    writer.append_after(0, 1, max - 2, max - 1).await.unwrap();
    assert_eq!(writer.append(1, max, max).await.unwrap(), done(max, 1));
    assert_eq!(writer.read().await, [max - 2, max - 1, max]);
}

#[tokio::test]
async fn lanes_of_a_shared_stream_are_numbered_apart() {
    let redis = Redis::start().await;
    let (one, two) = (Writer::new(&redis, "status/var-1"), Writer::new(&redis, "status/var-2"));
    one.claim().await;
    two.claim().await;
    for number in 1..=3 {
        one.append(1, number, number).await.unwrap();
        two.append(1, number, number).await.unwrap();
    }
    assert_eq!((one.read().await, two.read().await), (vec![1, 2, 3], vec![1, 2, 3]));
    let lanes = one.bus.lanes(&one.run).await.unwrap();
    assert_eq!(lanes[&Lane::of(Channel::Status, &VariationId::new("var-2").unwrap())].last.get(), 3);
    assert_eq!(one.bus.runs().await.unwrap(), std::slice::from_ref(&one.run));
}
