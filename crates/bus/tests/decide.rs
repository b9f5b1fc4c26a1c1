//! Several writers of one lane, leases and the life of a run in a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Append, Bus, Decided, Decision, EntryId, Limits, RedisConfig};
use runcast_protocol::{Batch, Lane, RunId, Sequence, VariationId};
use runcast_testkit::eventually;

const LIMITS: Limits = Limits { ttl: Duration::from_secs(600), entries: 1000 };

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn line(writer: &str, kind: &str, number: u64) -> Bytes {
    format!(
        r#"{{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"r","variation_id":"v","sequence":{number},"type":"{kind}","content":{{}},"metadata":{{}}{writer}}}"#
    )
    .into()
}

fn decision(number: u64, read: &[(&str, u64)]) -> Decision {
    Decision {
        run: RunId::new("r").unwrap(),
        lane: "control/@control".parse().unwrap(),
        first: sequence(number),
        last: sequence(number),
        batch: line(r#","writer":"@control""#, "control", number),
        read: read.iter().map(|(lane, last)| (lane.parse().unwrap(), sequence(*last))).collect(),
    }
}

async fn ack(bus: &Bus, number: u64) {
    let (run, lane): (RunId, Lane) = (RunId::new("r").unwrap(), "acks/v".parse().unwrap());
    let (first, last, batch) = (sequence(number), sequence(number), line("", "ack", number));
    let after = first.previous();
    bus.append(Append { run, lane, epoch: 0, first, last, batch, after }, LIMITS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_stands_only_on_what_its_writer_has_read() {
    let redis = runcast_testkit::Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let moved = |lane: &str, last| Decided::Moved { lane: lane.parse().unwrap(), last: sequence(last) };
    assert_eq!(bus.decide(decision(1, &[]), LIMITS).await.unwrap(), Decided::Done);
    // A repeat, and another replica that had not read the first.
    assert_eq!(bus.decide(decision(1, &[]), LIMITS).await.unwrap(), moved("control/@control", 1));
    ack(&bus, 1).await;
    assert_eq!(bus.decide(decision(2, &[("acks/v", 0)]), LIMITS).await.unwrap(), moved("acks/v", 1));
    assert_eq!(
        bus.decide(decision(2, &[("acks/v", 1), ("acks/w", 0)]), LIMITS).await.unwrap(),
        Decided::Done
    );
    let run = RunId::new("r").unwrap();
    let page = bus.read(&run, &"control/@control".parse().unwrap(), EntryId::default(), 10).await.unwrap();
    let numbers: Vec<_> =
        page.batches.into_iter().map(|batch| Batch::parse(batch).unwrap().first().get()).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replicas_that_decide_at_once_one_is_first_each_time() {
    let redis = runcast_testkit::Redis::start().await;
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
        replicas.spawn(async move {
            let (mut next, mut done) = (1, 0);
            while next <= 200 {
                match bus.decide(decision(next, &[]), LIMITS).await.unwrap() {
                    Decided::Done => (next, done) = (next + 1, done + 1),
                    Decided::Moved { last, .. } => next = last.get() + 1,
                }
            }
            done
        });
    }
    let done: u64 = replicas.join_all().await.into_iter().sum();
    assert_eq!(done, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lapses_unless_it_is_renewed() {
    let redis = runcast_testkit::Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let (run, variation) = (RunId::new("r").unwrap(), VariationId::new("v").unwrap());
    let variations = [variation.clone(), VariationId::new("w").unwrap()];
    assert!(
        bus.renew_lease(&run, &variation, "pod-1", Duration::from_secs(60)).await.unwrap(),
        "never taken"
    );
    assert!(!bus.renew_lease(&run, &variation, "pod-1", Duration::from_millis(50)).await.unwrap());
    eventually("it lapses", Duration::from_secs(5), async || {
        (bus.leases(&run, &variations).await.unwrap() == [None, None]).then_some(())
    })
    .await;
    assert!(
        bus.renew_lease(&run, &variation, "pod-2", Duration::from_secs(60)).await.unwrap(),
        "it had lapsed"
    );
    assert_eq!(bus.leases(&run, &variations).await.unwrap(), [Some("pod-2".to_owned()), None]);
    bus.release_lease(&run, &variation).await.unwrap();
    assert_eq!(bus.leases(&run, &variations).await.unwrap(), [None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_let_go_only_as_its_caller_knows_it() {
    let redis = runcast_testkit::Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let run = RunId::new("r").unwrap();
    bus.decide(decision(1, &[]), LIMITS).await.unwrap();
    let before = bus.lanes(&run).await.unwrap();
    ack(&bus, 1).await;
    let ttls = async || {
        let keys = ["run:{r}:lanes", "run:{r}:control", "run:{r}:acks"];
        let mut ttls = Vec::new();
        for key in keys {
            ttls.push(redis.command(&["TTL", key]).await.unwrap().text().parse::<i64>().unwrap());
        }
        ttls
    };
    // A lane that the caller does not know.
    assert!(!bus.release(&run, &before, Duration::from_secs(9)).await.unwrap());
    assert!(ttls().await.iter().all(|ttl| *ttl > 9), "nothing was changed");
    let before = bus.lanes(&run).await.unwrap();
    bus.decide(decision(2, &[]), LIMITS).await.unwrap();
    // A message.
    assert!(!bus.release(&run, &before, Duration::from_secs(9)).await.unwrap());
    let now = bus.lanes(&run).await.unwrap();
    assert!(bus.release(&run, &now, Duration::from_secs(9)).await.unwrap());
    assert!(ttls().await.iter().all(|ttl| (1..=9).contains(ttl)));
    assert!(bus.release(&run, &now, Duration::from_secs(100)).await.unwrap());
    assert!(ttls().await.iter().all(|ttl| (1..=9).contains(ttl)), "never longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_is_kept_for_less_and_a_deleted_one_leaves_nothing() {
    let redis = runcast_testkit::Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let (run, variation) = (RunId::new("r").unwrap(), VariationId::new("v").unwrap());
    bus.decide(decision(1, &[]), LIMITS).await.unwrap();
    ack(&bus, 1).await;
    bus.renew_lease(&run, &variation, "pod", Duration::from_secs(60)).await.unwrap();
    // The streams and the lanes; the lease has less to live anyway.
    assert_eq!(bus.retain(&run, Duration::from_secs(100)).await.unwrap(), 3);
    assert_eq!(bus.retain(&run, Duration::from_secs(100)).await.unwrap(), 0);
    let ttl = redis.command(&["TTL", "run:{r}:lanes"]).await.unwrap().text();
    assert!((1..=100).contains(&ttl.parse::<i64>().unwrap()), "{ttl}");
    assert!(bus.delete_run(&run).await.unwrap());
    assert!(!bus.delete_run(&run).await.unwrap());
    assert_eq!(redis.command(&["DBSIZE"]).await.unwrap().text(), "0");

    bus.tell_lifecycle(&run, Bytes::from_static(b"{}"), LIMITS).await.unwrap();
    let feeds = redis.command(&["KEYS", "runs:feed:*"]).await.unwrap();
    assert_eq!(feeds.items().len(), 1);
}
