//! Dead letters in a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Appended, Bus, BusError, DeadLetter, EntryId, Limits, RedisConfig};
use runcast_protocol::{Batch, Lane, RunId, Sequence, timestamp};
use runcast_testkit::Redis;

const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 100 };
const MESSAGE: &str = r#"{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"r","variation_id":"v","sequence":7,"type":"log","content":1,"metadata":{}}"#;

struct Graveyard {
    redis: Redis,
    bus: Bus,
    run: RunId,
    lane: Lane,
}

impl Graveyard {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
        Self { redis, bus, run: RunId::new("r").unwrap(), lane: "logs/v".parse().unwrap() }
    }

    async fn bury(&self, original: &str) -> (EntryId, DeadLetter) {
        let letter = DeadLetter {
            reason: "too large".into(),
            time: timestamp::now(),
            lane: self.lane.clone(),
            sequence: Sequence::new(7).ok(),
            original: Bytes::copy_from_slice(original.as_bytes()),
        };
        (self.bus.bury(&self.run, &letter, LIMITS).await.unwrap(), letter)
    }

    async fn requeue(&self, id: EntryId) -> Result<Option<u64>, BusError> {
        Ok(self.bus.requeue_dead_letter(&self.run, id).await?.map(Sequence::get))
    }

    /// The lane's messages as text, each of them a batch.
    async fn lane(&self) -> Vec<String> {
        let page = self.bus.read(&self.run, &self.lane, EntryId::default(), 1000).await.unwrap();
        let batches = page.batches.into_iter().map(|payload| Batch::parse(payload).unwrap());
        batches.map(|batch| String::from_utf8_lossy(&batch.entries[0].line).into_owned()).collect()
    }

    async fn number(&self, command: &[&str]) -> i64 {
        self.redis.command(command).await.unwrap().text().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_requeued_and_dropped() {
    let graves = Graveyard::start().await;
    let (bus, run) = (&graves.bus, &graves.run);
    assert_eq!(bus.dead_letters(run, EntryId::default(), 10).await.unwrap(), []);
    let (first, letter) = graves.bury(MESSAGE).await;
    let unnumbered =
        DeadLetter { sequence: None, original: Bytes::from_static(b"no message"), ..letter.clone() };
    let second = bus.bury(run, &unnumbered, LIMITS).await.unwrap();
    let listed = bus.dead_letters(run, EntryId::default(), 10).await.unwrap();
    assert_eq!(listed, [(first, letter.clone()), (second, unnumbered.clone())]);
    assert_eq!(bus.dead_letters(run, first, 10).await.unwrap(), [(second, unnumbered)]);
    assert_eq!(bus.dead_letter(run, first).await.unwrap(), Some(letter));

    assert!(graves.requeue(second).await.is_err(), "it is no message");
    assert_eq!(graves.requeue(first).await.unwrap(), Some(1));
    assert_eq!(bus.dead_letter(run, first).await.unwrap(), None);
    let lane = graves.lane().await;
    assert!(lane[0].contains(r#""sequence":1,"#) && lane[0].contains(&format!(r#""requeued":"{first}""#)));
    assert!(bus.drop_dead_letter(run, second).await.unwrap());
    assert!(!bus.drop_dead_letter(run, second).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeued_letter_is_in_its_lane_once_however_often_that_is_tried() {
    let graves = Graveyard::start().await;
    let (id, _) = graves.bury(MESSAGE).await;
    let tries = futures_util::future::join_all((0..8).map(|_| graves.requeue(id))).await;
    let done = tries.iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count();
    for outcome in &tries {
        // Who comes too late finds nothing; who is overtaken between claim and append may ask again.
        assert!(matches!(outcome, Ok(_) | Err(BusError::Refused(_))), "{outcome:?}");
    }
    assert_eq!((done, graves.lane().await.len()), (1, 1));
    assert_eq!(graves.requeue(id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_appends_a_letter_only_while_it_is_there() {
    let graves = Graveyard::start().await;
    let (id, _) = graves.bury(MESSAGE).await;
    let id = id.to_string();
    let script = include_str!("../src/lua/append.lua");
    let keys = ["EVAL", script, "3", "run:{r}:logs:v", "run:{r}:lanes", "run:{r}:dead"];
    // Another one read the letter as well, and comes second.
    for (after, number, reply) in [("0", "1", "OK 1 1"), ("1", "2", "GONE 1 1"), ("1", "2", "GONE 1 1")] {
        let batch = ["logs/v", "1", number, number, "x", "own", "60", "100", "PUBLISH", after, &id];
        let answer = graves.redis.command(&[&keys[..], &batch[..]].concat()).await.unwrap();
        assert_eq!(answer.text(), reply);
    }
    assert_eq!((graves.number(&["XLEN", keys[3]]).await, graves.number(&["XLEN", keys[5]]).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_keeps_the_letter() {
    let graves = Graveyard::start().await;
    let (id, letter) = graves.bury(MESSAGE).await;
    let (other, _) = graves.bury(&MESSAGE.replace(r#""r""#, r#""s""#)).await;
    graves.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let refused = graves.requeue(id).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!(graves.bus.dead_letter(&graves.run, id).await.unwrap(), Some(letter));
    graves.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(graves.requeue(id).await.unwrap(), Some(1));

    let error = graves.requeue(other).await.unwrap_err().to_string();
    assert!(error.contains("it is a message of logs/v of run s"), "{error}");
    assert!(graves.bus.dead_letter(&graves.run, other).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn requeueing_fences_the_writer_and_shortens_no_ones_life() {
    let graves = Graveyard::start().await;
    let long = Limits { ttl: Duration::from_secs(500_000), entries: 100 };
    let claimed = graves.bus.claim(&graves.run, &graves.lane, long).await.unwrap();
    assert_eq!(claimed, Appended::Done { last: Sequence::NONE, epoch: 1 });
    let (id, _) = graves.bury(MESSAGE).await;
    assert_eq!(graves.requeue(id).await.unwrap(), Some(1));
    let probed = graves.bus.probe(&graves.run, &graves.lane, 1, long).await.unwrap();
    assert_eq!(probed, Appended::Fenced { epoch: 2 });
    for key in ["run:{r}:lanes", "run:{r}:logs:v"] {
        let ttl = graves.number(&["TTL", key]).await;
        assert!((400_000..=500_000).contains(&ttl), "{key} {ttl}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requeueing_trims_nothing() {
    let graves = Graveyard::start().await;
    for number in 1..=300 {
        let id = format!("{number}-0");
        graves.redis.command(&["XADD", "run:{r}:logs:v", &id, "m", "x"]).await.unwrap();
    }
    let (id, _) = graves.bury(MESSAGE).await;
    assert_eq!(graves.requeue(id).await.unwrap(), Some(301));
    assert_eq!(graves.number(&["XLEN", "run:{r}:logs:v"]).await, 301);
}
