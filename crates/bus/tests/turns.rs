//! Turns of replicas, and keeping what is not archived yet.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_protocol::{RunId, VariationId};
use runcast_testkit::{Pen, Redis, eventually};

#[tokio::test]
async fn a_turn_is_one_holders_until_it_lapses_or_is_given_back() {
    let redis = Redis::start().await;
    let pen = Pen::new(&redis.url(), "r", "a");
    let (bus, run) = (pen.bus(), RunId::new("r").unwrap());
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(20));
    assert!(bus.take_archiving(&run, "one", long).await.unwrap());
    assert!(bus.take_archiving(&run, "one", long).await.unwrap());
    assert!(!bus.take_archiving(&run, "two", long).await.unwrap());
    bus.leave_archiving(&run, "two").await.unwrap();
    assert!(!bus.take_archiving(&run, "two", long).await.unwrap());
    bus.leave_archiving(&run, "one").await.unwrap();
    assert!(bus.take_archiving(&run, "two", short).await.unwrap());
    eventually("the turn lapses", Duration::from_secs(5), async || {
        bus.take_archiving(&run, "one", long).await.unwrap().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_protected_is_kept_for_longer_and_a_lease_is_not() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "a");
    pen.say("hello").await;
    let (bus, run) = (pen.bus(), RunId::new("r").unwrap());
    let variation = VariationId::new("a").unwrap();
    bus.renew_lease(&run, &variation, "holder", Duration::from_secs(9)).await.unwrap();
    let ttl = async |key: &str| redis.command(&["TTL", key]).await.unwrap().text().parse::<i64>().unwrap();
    let stream = "run:{r}:output:a";
    // It has 600 s, which is more than half of it.
    assert_eq!(bus.protect(&run, Duration::from_secs(1000)).await.unwrap(), 0);
    assert!(bus.protect(&run, Duration::from_secs(5000)).await.unwrap() >= 2);
    assert!(ttl(stream).await > 4900 && ttl("run:{r}:lanes").await > 4900);
    assert!(ttl("run:{r}:lease:a").await <= 9);
    // What is kept for ever stays so.
    redis.command(&["PERSIST", stream]).await.unwrap();
    assert_eq!(bus.protect(&run, Duration::from_secs(50_000)).await.unwrap(), 1);
    assert_eq!(ttl(stream).await, -1);
}
