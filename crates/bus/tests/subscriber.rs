//! Subscriptions against a real Redis that goes away, comes back and freezes.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use runcast_bus::{Bus, BusError, Inbox, Incoming, RedisConfig, Subscriber};
use runcast_testkit::{Redis, eventually};

fn connect(redis: &Redis) -> (Bus, Subscriber) {
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let subscriber = Subscriber::connect(&bus).unwrap();
    (bus, subscriber)
}

async fn payload(inbox: &mut Inbox) -> Bytes {
    let next = async {
        loop {
            if let Incoming::Payload(payload) = inbox.next().await {
                return payload;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("a payload")
}

async fn publish(redis: &Redis, channel: &str, payload: &str) -> u64 {
    redis.command(&["PUBLISH", channel, payload]).await.unwrap().text().parse().unwrap()
}

#[tokio::test]
async fn one_subscription_serves_all_who_listen_and_goes_with_the_last() {
    let redis = Redis::start().await;
    let (_bus, subscriber) = connect(&redis);
    let (mut one, mut two) = (subscriber.inbox(8), subscriber.inbox(8));
    one.subscribe(["news".to_owned()]).await;
    two.subscribe(["news".to_owned()]).await;
    assert_eq!(publish(&redis, "news", "a").await, 1, "both share one subscription");
    assert_eq!((payload(&mut one).await, payload(&mut two).await), ("a".into(), "a".into()));
    drop(one);
    assert_eq!(publish(&redis, "news", "b").await, 1);
    assert_eq!(payload(&mut two).await, "b");
    drop(two);
    eventually("nobody is subscribed", Duration::from_secs(5), async || {
        (publish(&redis, "news", "c").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_thousand_channels_share_a_connection() {
    let redis = Redis::start().await;
    let (_bus, subscriber) = connect(&redis);
    let mut inbox = subscriber.inbox(2000);
    inbox.subscribe((0..1000).map(|number| format!("channel-{number}"))).await;
    for number in 0..1000 {
        assert_eq!(publish(&redis, &format!("channel-{number}"), &number.to_string()).await, 1);
    }
    for number in 0..1000 {
        assert_eq!(payload(&mut inbox).await, number.to_string());
    }
    let clients = redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap().text();
    assert_eq!(clients.lines().count(), 1, "{clients}");
}

#[tokio::test]
async fn a_full_inbox_says_that_something_was_missed() {
    let redis = Redis::start().await;
    let (_bus, subscriber) = connect(&redis);
    let mut inbox = subscriber.inbox(2);
    inbox.subscribe(["news".to_owned()]).await;
    while inbox.try_next().is_some() {}
    let mut other = subscriber.inbox(64);
    other.subscribe(["news".to_owned()]).await;
    for number in 0..10 {
        publish(&redis, "news", &number.to_string()).await;
    }
    for _ in 0..10 {
        payload(&mut other).await;
    }
    assert_eq!(inbox.next().await, Incoming::Missed);
    assert_eq!(payload(&mut inbox).await, "0");
}

async fn until_heard(redis: &Redis, inbox: &mut Inbox) {
    eventually("a publication is heard", Duration::from_secs(15), async || {
        let published = redis.command(&["PUBLISH", "news", "again"]).await.ok()?;
        (published.text() == "1").then_some(())
    })
    .await;
    assert_eq!(payload(inbox).await, "again");
}

#[tokio::test]
async fn a_killed_connection_is_made_anew_and_told() {
    let redis = Redis::start().await;
    let (_bus, subscriber) = connect(&redis);
    let mut inbox = subscriber.inbox(64);
    inbox.subscribe(["news".to_owned()]).await;
    publish(&redis, "news", "first").await;
    assert_eq!(payload(&mut inbox).await, "first");
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    assert_eq!(inbox.next().await, Incoming::Missed);
    until_heard(&redis, &mut inbox).await;
}

#[tokio::test]
async fn a_redis_that_dies_and_returns_is_found_again() {
    let mut redis = Redis::start().await;
    let (bus, subscriber) = connect(&redis);
    let mut inbox = subscriber.inbox(64);
    inbox.subscribe(["news".to_owned()]).await;
    redis.kill9();
    assert!(matches!(bus.ping().await, Err(error) if error.is_transient()));
    redis.restart().await;
    eventually("commands work again", Duration::from_secs(10), async || bus.ping().await.ok()).await;
    until_heard(&redis, &mut inbox).await;
}

#[tokio::test]
async fn a_redis_that_comes_late_is_waited_for() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let (bus, subscriber) = connect(&redis);
    let mut inbox = subscriber.inbox(64);
    inbox.subscribe(["news".to_owned()]).await;
    redis.restart().await;
    eventually("commands work", Duration::from_secs(10), async || bus.ping().await.ok()).await;
    until_heard(&redis, &mut inbox).await;
}

#[tokio::test]
async fn a_frozen_redis_is_noticed() {
    let redis = Redis::start().await;
    let (bus, _subscriber) = connect(&redis);
    bus.ping().await.unwrap();
    redis.freeze();
    let begun = Instant::now();
    assert!(matches!(bus.ping().await, Err(BusError::Unreachable(_))));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    redis.thaw();
    eventually("commands work again", Duration::from_secs(10), async || bus.ping().await.ok()).await;
}
