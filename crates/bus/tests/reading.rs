//! Reading streams in pages, and what a subscriber hears, against a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, BusError, EntryId, Incoming, Limits, RedisConfig, Subscriber};
use runcast_protocol::{Batch, BatchWriter, Channel, Json, Lane, RunId, Sequence, VariationId, keys};
use runcast_testkit::{Pen, Redis, eventually, message};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 1000 };

fn run() -> RunId {
    RunId::new("run-1").unwrap()
}

fn lane(name: &str) -> Lane {
    name.parse().unwrap()
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// All batches of the stream that carries `lane`, and how many pages they took.
async fn pages(bus: &Bus, lane: &Lane, mut after: EntryId, count: usize) -> (Vec<Batch>, usize) {
    let (mut batches, mut pages) = (Vec::new(), 0);
    loop {
        let page = bus.read(&run(), lane, after, count).await.unwrap();
        pages += 1;
        assert!(page.batches.len() <= count && (page.is_last || page.end > after));
        batches.extend(page.batches.into_iter().map(|payload| Batch::parse(payload).unwrap()));
        if page.is_last {
            return (batches, pages);
        }
        after = page.end;
    }
}

#[tokio::test]
async fn a_stream_of_one_writer_is_read_in_pages_from_any_position() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
    for number in 0..25 {
        let said = [Json::string(&format!("{number} a")), Json::string(&format!("{number} b"))];
        pen.write(Channel::Output, &said).await;
    }
    let output = lane("output/var-1");
    let (batches, count) = pages(pen.bus(), &output, EntryId::default(), 10).await;
    assert_eq!((batches.len(), count), (25, 3));
    assert_eq!((batches[0].first(), batches[24].last()), (sequence(1), sequence(50)));

    // An entry's ID is its last sequence: what follows a position begins in the entry that holds it.
    for (position, first) in [(0, 1), (1, 1), (2, 3), (47, 47), (48, 49)] {
        let (batches, _) = pages(pen.bus(), &output, EntryId::after(sequence(position)), 10).await;
        assert_eq!(batches[0].first(), sequence(first), "after {position}");
    }
    let end = pen.bus().read(&run(), &output, EntryId::after(sequence(50)), 10).await.unwrap();
    assert!(end.batches.is_empty() && end.is_last);
    assert_eq!(end.lane.unwrap().last, sequence(50));
}

#[tokio::test]
async fn a_shared_stream_holds_the_lanes_of_all_its_writers_in_order() {
    let redis = Redis::start().await;
    let mut pens = ["var-1", "var-2", "var-3"].map(|name| Pen::new(&redis.url(), "run-1", name));
    for number in 0..40 {
        for pen in &mut pens {
            pen.write(Channel::Metrics, &[Json::of(&number)]).await;
        }
    }
    // Whichever of the stream's lanes is asked for.
    for name in ["metrics/var-1", "metrics/@control"] {
        let (batches, count) = pages(pens[0].bus(), &lane(name), EntryId::default(), 50).await;
        assert_eq!(count, 3);
        let mut lanes: BTreeMap<Lane, Vec<u64>> = BTreeMap::new();
        for batch in batches {
            lanes.entry(batch.lane.clone()).or_default().push(batch.last().get());
        }
        assert_eq!(lanes.len(), 3);
        assert!(lanes.values().all(|numbers| numbers.iter().copied().eq(1..=40)), "{lanes:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_reads_as_nothing() {
    let redis = Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let page = bus.read(&run(), &lane("output/var-1"), EntryId::default(), 10).await.unwrap();
    assert!(page.lane.is_none() && page.batches.is_empty() && page.is_last);
    assert!(bus.lanes(&run()).await.unwrap().is_empty());
    assert!(bus.runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn subscribers_hear_the_very_bytes_of_the_entry() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
    let subscriber = Subscriber::connect(pen.bus()).unwrap();
    let mut inbox = subscriber.inbox(16);
    let stream = keys::stream(&run(), &lane("output/var-1"));
    inbox.subscribe([stream.clone()]).await;
    while inbox.try_next().is_some() {}
    // The last is long enough to be compressed.
    for text in ["plain", "\0\u{2028}\r\n🛰️", &"again and again ".repeat(2000)] {
        pen.say(text).await;
        let Incoming::Payload(heard) = inbox.next().await else { panic!("missed") };
        let entry = redis.command(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]).await.unwrap();
        let fields = entry.items()[0].items()[1].items();
        assert_eq!(fields[0].text(), "m");
        let runcast_testkit::Reply::Text(stored) = &fields[1] else { panic!("{fields:?}") };
        assert_eq!(heard, Bytes::copy_from_slice(stored));
        assert_eq!(Batch::parse(heard).unwrap().entries.len(), 1);
    }
    let retry = redis.command(&["XLEN", &stream]).await.unwrap();
    assert_eq!(retry.text(), "3");
}

#[tokio::test]
async fn an_append_that_a_frozen_redis_swallowed_can_be_repeated() {
    let redis = Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let (lane, variation) = (lane("output/var-1"), VariationId::new("var-1").unwrap());
    let Appended::Done { epoch, .. } = bus.claim(&run(), &lane, LIMITS).await.unwrap() else {
        panic!("claim")
    };
    let mut batch = BatchWriter::default();
    batch.push(&message(&run(), &variation, Channel::Output, sequence(1), Json::string("once")).to_line());
    let (first, last) = (sequence(1), sequence(1));
    let append = Append {
        run: run(),
        lane: lane.clone(),
        epoch,
        first,
        last,
        batch: batch.finish(4096),
        after: Sequence::NONE,
    };

    redis.freeze();
    let swallowed = bus.append(append.clone(), LIMITS).await;
    assert!(matches!(swallowed, Err(BusError::Unreachable(_))), "{swallowed:?}");
    redis.thaw();
    let repeated = eventually("it is taken", Duration::from_secs(10), async || {
        bus.append(append.clone(), LIMITS).await.ok()
    });
    assert_eq!(repeated.await, Appended::Done { last, epoch });
    // The other connection may still be mending.
    let read = async || bus.read(&run(), &lane, EntryId::default(), 10).await.ok();
    let page = eventually("it is read", Duration::from_secs(10), read).await;
    assert_eq!(page.batches.len(), 1, "once, whether the first attempt came through or not");
}

#[tokio::test]
async fn a_server_tells_about_itself() {
    let redis = Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let info = bus.server_info().await.unwrap();
    assert_eq!(info["tcp_port"], redis.port().to_string());
    assert!(info["redis_version"].split('.').count() >= 3, "{info:?}");
}
