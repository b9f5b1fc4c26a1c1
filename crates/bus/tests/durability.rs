//! How messages become safe, on whatever server the tests run against.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_bus::{Durability, Fenced};
use runcast_protocol::RunId;
use runcast_testkit::{Pen, Redis, RedisBuilder, eventually};

const PATIENCE: Duration = Duration::from_secs(5);

struct Fence {
    redis: Redis,
    durability: Durability,
    found: Fenced,
}

impl Fence {
    /// Puts one after two messages.
    async fn after_two(builder: RedisBuilder) -> Self {
        let redis = builder.start().await;
        let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
        pen.say("one").await;
        pen.say("two").await;
        let run = RunId::new("run-1").unwrap();
        let durability = pen.bus().durability(&run).await.unwrap();
        let found = pen.bus().fence(&run, durability, PATIENCE, PATIENCE).await.unwrap();
        let stands = found.lanes.iter().map(|(lane, last)| (lane.to_string(), last.get()));
        assert_eq!(stands.collect::<Vec<_>>(), [("output/var-1".to_owned(), 2)]);
        Self { redis, durability, found }
    }

    /// How often the server was asked to wait for the disk.
    async fn waited(&self) -> bool {
        !self.redis.info("cmdstat_waitaof").await.is_empty()
    }
}

#[tokio::test]
async fn what_is_in_the_append_only_file_is_confirmed_by_servers_that_can_tell() {
    let fence = Fence::after_two(Redis::builder().set("appendonly", "yes")).await;
    let version = fence.redis.version().await;
    let is_able = version >= (7, 2);
    let expected = if is_able { Durability::Fsynced } else { Durability::Aged };
    assert_eq!(fence.durability, expected, "{version:?}");
    assert_eq!((fence.found.confirmed, fence.waited().await), (is_able, is_able), "{version:?}");
}

#[tokio::test]
async fn without_an_append_only_file_nobody_can_confirm() {
    let fence = Fence::after_two(Redis::builder()).await;
    assert_eq!((fence.durability, fence.found.confirmed), (Durability::Aged, false));
    assert!(!fence.waited().await, "the server would have to say that there is no such file");
}

#[tokio::test]
async fn a_replica_is_asked_before_the_disk() {
    let primary = Redis::builder().set("appendonly", "yes").set("repl-diskless-sync-delay", "0");
    let primary = primary.start().await;
    let replicaof = format!("127.0.0.1 {}", primary.port());
    let _replica = Redis::builder().set("replicaof", &replicaof).start().await;
    eventually("the replica is in step", Duration::from_secs(30), async || {
        primary.info("slave0").await.contains("state=online").then_some(())
    })
    .await;
    let mut pen = Pen::new(&primary.url(), "run-1", "var-1");
    pen.say("one").await;
    let run = RunId::new("run-1").unwrap();
    assert_eq!(pen.bus().durability(&run).await.unwrap(), Durability::Replicated);
    let found =
        pen.bus().fence(&run, Durability::Replicated, PATIENCE, Duration::from_secs(2)).await.unwrap();
    assert!(found.confirmed, "{found:?}");
}
