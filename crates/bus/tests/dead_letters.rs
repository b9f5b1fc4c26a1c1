//! Dead letters in a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Bus, DeadLetter, EntryId, Limits, RedisConfig};
use runcast_protocol::{RunId, Sequence, timestamp};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_requeued_and_dropped() {
    let redis = runcast_testkit::Redis::start().await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let run = RunId::new("r").unwrap();
    let limits = Limits { ttl: Duration::from_secs(60), entries: 100 };
    assert_eq!(bus.dead_letters(&run, EntryId::default(), 10).await.unwrap(), []);
    let message = br#"{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"r","variation_id":"v","sequence":7,"type":"log","content":1,"metadata":{}}"#;
    let letter = |original: &'static [u8]| DeadLetter {
        reason: "too large".into(),
        time: timestamp::now(),
        lane: "logs/v".parse().unwrap(),
        sequence: Sequence::new(7).ok(),
        original: Bytes::from_static(original),
    };
    let first = bus.bury(&run, &letter(message), limits).await.unwrap();
    let unnumbered = DeadLetter { sequence: None, ..letter(b"no message") };
    let second = bus.bury(&run, &unnumbered, limits).await.unwrap();
    let listed = bus.dead_letters(&run, EntryId::default(), 10).await.unwrap();
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(bus.dead_letters(&run, first, 10).await.unwrap(), [(second, unnumbered)]);
    assert_eq!(bus.dead_letter(&run, first).await.unwrap().unwrap().original, &message[..]);

    assert!(bus.requeue_dead_letter(&run, second, limits).await.is_err(), "it is no message");
    assert_eq!(bus.requeue_dead_letter(&run, first, limits).await.unwrap().get(), 1);
    assert_eq!(bus.dead_letter(&run, first).await.unwrap(), None);
    let page = bus.read(&run, &"logs/v".parse().unwrap(), EntryId::default(), 10).await.unwrap();
    assert!(String::from_utf8_lossy(&page.batches[0]).contains(r#""sequence":1,"#));
    assert!(bus.drop_dead_letter(&run, second).await.unwrap());
    assert!(!bus.drop_dead_letter(&run, second).await.unwrap());
}
