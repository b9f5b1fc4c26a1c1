//! Appends and subscriptions through Sentinel failovers, cluster failovers and slot migrations.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, EntryId, Inbox, Incoming, Limits, RedisConfig, Subscriber};
use runcast_protocol::{Lane, RunId, Sequence, keys};
use runcast_testkit::{Cluster, Cut, Redis, Sentinel, eventually};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 1000 };
const SOON: Duration = Duration::from_secs(30);

struct Party {
    bus: Bus,
    inbox: Inbox,
    run: RunId,
    lane: Lane,
    _subscriber: Subscriber,
    last: u64,
}

impl Party {
    async fn join(url: &str, run: &str) -> Self {
        let bus = Bus::connect(&RedisConfig::new(url)).unwrap();
        let subscriber = Subscriber::connect(&bus).unwrap();
        let (run, lane): (RunId, Lane) = (run.parse().unwrap(), "output/var-1".parse().unwrap());
        let mut inbox = subscriber.inbox(1000);
        inbox.subscribe([keys::stream(&run, &lane)]).await;
        Self { bus, inbox, run, lane, _subscriber: subscriber, last: 0 }
    }

    /// Appends one batch, as often as it takes; or learns that Redis lost a tail, and goes back to
    /// where it stands. What the batch holds does not matter to the script.
    async fn append(&mut self) {
        let number = self.last + 1;
        let sequence = Sequence::new(number).unwrap();
        let (run, lane, batch) =
            (self.run.clone(), self.lane.clone(), Bytes::from(format!("batch {number}")));
        let append = Append {
            run,
            lane,
            epoch: 1,
            first: sequence,
            last: sequence,
            batch,
            after: sequence.previous(),
        };
        let stands = eventually("an append is answered", SOON, async || {
            match self.bus.append(append.clone(), LIMITS).await {
                Ok(Appended::Done { last, .. } | Appended::Rewind { last }) => Some(last),
                Ok(fenced) => panic!("{fenced:?}"),
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    None
                }
            }
        });
        self.last = stands.await.get();
    }

    /// Appends until this server has it: one that was just demoted may still take a few.
    async fn append_until_known(&mut self, server: &Redis) {
        let begun = std::time::Instant::now();
        loop {
            assert!(begun.elapsed() < SOON, "it goes elsewhere");
            self.append_until_heard().await;
            let known = server.command(&["HGET", "run:{run-1}:lanes", "output/var-1"]).await.unwrap().text();
            if known == format!("{} 1", self.last) {
                return;
            }
        }
    }

    /// Appends until a batch is heard again on the fast path.
    async fn append_until_heard(&mut self) {
        let begun = std::time::Instant::now();
        loop {
            assert!(begun.elapsed() < SOON, "nothing is heard");
            self.append().await;
            let own = Bytes::from(format!("batch {}", self.last));
            let heard = async { while self.inbox.next().await != Incoming::Payload(own.clone()) {} };
            if tokio::time::timeout(Duration::from_millis(200), heard).await.is_ok() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_sentinel_failover_is_followed() {
    let mut sentinel = Sentinel::start().await;
    let mut party = Party::join(&sentinel.url(), "run-1").await;
    party.append_until_heard().await;
    assert_eq!(party.bus.durability(&party.run).await.unwrap(), runcast_bus::Durability::Replicated);
    let fence = party
        .bus
        .fence(&party.run, runcast_bus::Durability::Replicated, LIMITS.ttl, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(fence.confirmed && fence.lanes[&party.lane].get() == party.last, "{fence:?}");
    let old = sentinel.primary_index().await.unwrap();
    sentinel.nodes[old].kill9();
    sentinel.until_promoted(old).await;
    party.append_until_heard().await;
}

#[tokio::test]
async fn a_demoted_primary_gets_no_more_writes() {
    let sentinel = Sentinel::start().await;
    let mut party = Party::join(&sentinel.url(), "run-1").await;
    party.append_until_heard().await;
    let old = sentinel.primary_index().await.unwrap();
    sentinel.nodes[old].freeze();
    let new = sentinel.until_promoted(old).await;
    sentinel.nodes[old].thaw();
    party.append_until_known(&sentinel.nodes[new]).await;
}

#[tokio::test]
async fn a_cluster_failover_is_followed() {
    let mut cluster = Cluster::start().await;
    let mut party = Party::join(&cluster.url(), "run-1").await;
    party.append_until_heard().await;
    let master = cluster.master_of(&keys::lanes(&party.run)).await.unwrap();
    cluster.nodes.iter_mut().find(|node| node.port() == master.port).unwrap().kill9();
    party.append_until_heard().await;
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_subscriptions_along() {
    let cluster = Cluster::start().await;
    let mut party = Party::join(&cluster.url(), "run-1").await;
    party.append_until_heard().await;
    for _ in 0..3 {
        cluster.migrate(&keys::lanes(&party.run)).await;
        party.append_until_heard().await;
    }
}

#[tokio::test]
async fn any_one_sentinel_is_enough_to_find_the_primary() {
    for survivor in 0..3 {
        let mut sentinel = Sentinel::start().await;
        let mut party = Party::join(&sentinel.url(), "run-1").await;
        party.append_until_heard().await;
        for index in (0..3).filter(|index| *index != survivor) {
            sentinel.kill_sentinel(index);
        }
        let primary = sentinel.primary_index().await.unwrap();
        for kind in ["normal", "pubsub"] {
            sentinel.nodes[primary].command(&["CLIENT", "KILL", "TYPE", kind]).await.unwrap();
        }
        party.append_until_heard().await;
    }
}

#[tokio::test]
async fn a_primary_cut_off_from_its_fellows_is_left_for_the_new_one() {
    let sentinel = Sentinel::start_proxied().await;
    let mut party = Party::join(&sentinel.url(), "run-1").await;
    party.append_until_heard().await;
    let old = sentinel.primary_index().await.unwrap();
    // Clients still reach it: they must not go on writing where nobody replicates.
    sentinel.proxies[old].cut(Cut { fellows: true, ..Cut::default() });
    let new = sentinel.until_promoted(old).await;
    party.append_until_known(&sentinel.nodes[new]).await;
    sentinel.proxies[old].cut(Cut::default());
    sentinel.until_replicated().await;
    party.append_until_heard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_command_waits_for_the_connection_to_a_cluster() {
    let cluster = Cluster::start().await;
    let (run, lane): (RunId, Lane) = ("run-1".parse().unwrap(), "output/var-1".parse().unwrap());
    for _ in 0..10 {
        let bus = Bus::connect(&RedisConfig::new(cluster.url())).unwrap();
        // Each of its connections in turn.
        for _ in 0..8 {
            assert!(bus.read(&run, &lane, EntryId::default(), 1).await.unwrap().batches.is_empty());
        }
    }
}
