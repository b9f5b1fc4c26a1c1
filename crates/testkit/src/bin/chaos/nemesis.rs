//! What breaks things.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use runcast_testkit::{Cut, Fanout, Redis};

use crate::Options;
use crate::agents::{RUN, Sidecars};
use crate::kept::Kept;
use crate::report::{Outage, Timeline};
use crate::topology::Topology;

/// A way to break things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// kill -9 of the primary; it comes back once another was promoted.
    KillPrimary,
    /// Ends the primary and its sentinel as a rolling update does: it hands over before.
    StopPrimary,
    /// SIGSTOP of the primary for longer than a failover takes, then SIGCONT.
    FreezePrimary,
    /// Cuts the primary off from replicas and sentinels, while clients still reach it.
    IsolatePrimary,
    /// Cuts all clients off from the primary.
    CutClients,
    /// Clients reach the primary, but its answers do not reach them.
    CutAnswers,
    /// Redis cuts all its clients' connections.
    KillClients,
    /// FLUSHALL on a replica.
    FlushReplica,
    /// kill -9 of a sentinel, and its restart.
    RestartSentinel,
    /// Moves the run's slot to another master.
    MigrateSlot,
    /// Fills the primary's memory until it evicts keys, whichever they are.
    FillMemory,
    /// kill -9 of a sidecar, and its restart.
    KillSidecar,
    /// kill -9 of a fan-out, and its restart.
    KillFanout,
}

/// Breaks things, one after the other.
pub(crate) struct Nemesis {
    topology: Topology,
    fanouts: [Fanout; 2],
    sidecars: Sidecars,
    faults: Vec<Fault>,
    timeline: Timeline,
    /// What was done, and how long a new primary took to take over where one did.
    pub(crate) outages: Vec<Outage>,
}

impl Nemesis {
    /// Ready to break what the topology knows, or of that what was chosen.
    pub(crate) fn new(
        topology: Topology,
        fanouts: [Fanout; 2],
        sidecars: Sidecars,
        chosen: Vec<Fault>,
        timeline: Timeline,
    ) -> Self {
        let known = |fault: &Fault| match fault {
            Fault::FlushReplica => !matches!(topology, Topology::Standalone(_)),
            Fault::RestartSentinel | Fault::IsolatePrimary | Fault::CutClients | Fault::CutAnswers => {
                matches!(topology, Topology::Sentinel(_) | Topology::Chart(_))
            }
            Fault::StopPrimary => matches!(topology, Topology::Chart(_)),
            Fault::FillMemory => !matches!(topology, Topology::Chart(_)),
            Fault::MigrateSlot => matches!(topology, Topology::Cluster(_)),
            _ => true,
        };
        let chosen = if chosen.is_empty() { Fault::value_variants().to_vec() } else { chosen };
        let faults = chosen.into_iter().filter(known).collect();
        Self { topology, fanouts, sidecars, faults, timeline, outages: Vec::new() }
    }

    /// Breaks things until `until`, or as often as was asked for.
    pub(crate) async fn rage(&mut self, rng: &mut SmallRng, until: tokio::time::Instant, options: &Options) {
        for number in 0..options.count {
            tokio::time::sleep(Duration::from_secs(options.pause)).await;
            if tokio::time::Instant::now() >= until {
                return;
            }
            let next = number as usize % self.faults.len();
            let fault =
                if options.in_order { self.faults[next] } else { *self.faults.choose(rng).expect("some") };
            self.timeline.tell(&format!("{fault:?} …"));
            let begun = Instant::now();
            let promoted = self.commit(fault, rng).await;
            let promotion = promoted.map(|at| at.duration_since(begun));
            self.timeline.tell(&format!("… {fault:?} over after {:.1?}", begun.elapsed()));
            self.outages.push(Outage { fault, begun, ended: Instant::now(), promotion });
        }
    }

    /// Waits until everything is whole again.
    pub(crate) async fn heal(&mut self) {
        self.topology.until_whole().await;
    }

    /// What Redis still holds.
    pub(crate) async fn kept(&self) -> Kept {
        Kept::ask(&self.topology.reader()).await
    }

    /// The sidecars' logs.
    pub(crate) fn logs(&self) -> Vec<String> {
        self.sidecars.logs()
    }

    /// What Redis refused to its users, and what they say of it themselves.
    pub(crate) async fn refusals(&mut self) -> Vec<String> {
        let mut refused = self.topology.refusals().await;
        let logs = self.fanouts.iter_mut().map(|fanout| fanout.process().log()).chain(self.sidecars.logs());
        for log in logs {
            let told = log.lines().filter(|line| line.contains("NOPERM"));
            refused.extend(told.map(ToOwned::to_owned));
        }
        refused.iter().map(|what| format!("refused by redis: {what}")).collect()
    }

    async fn commit(&mut self, fault: Fault, rng: &mut SmallRng) -> Option<Instant> {
        let key = format!("run:{{{RUN}}}:lanes");
        match fault {
            Fault::KillPrimary => {
                let old = self.topology.primary(&key).await?;
                self.topology.kill9(old).await;
                self.topology.until_promoted(&key, old).await;
                let promoted = Instant::now();
                self.topology.restart(old).await;
                self.topology.until_whole().await;
                return Some(promoted);
            }
            Fault::StopPrimary => {
                let old = self.topology.primary(&key).await?;
                let Topology::Chart(chart) = &self.topology else { return None };
                chart.stop(old).await;
                let promoted = Instant::now();
                chart.launch(old, "start").await;
                chart.launch(old, "sentinel").await;
                chart.until_whole().await;
                return Some(promoted);
            }
            Fault::FreezePrimary => {
                let old = self.topology.primary(&key).await?;
                self.topology.freeze(old, true).await;
                let promoted = if matches!(self.topology, Topology::Standalone(_)) {
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    None
                } else {
                    self.topology.until_promoted(&key, old).await;
                    Some(Instant::now())
                };
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..2000))).await;
                self.topology.freeze(old, false).await;
                self.topology.until_whole().await;
                return promoted;
            }
            Fault::IsolatePrimary => {
                let old = self.topology.primary(&key).await?;
                self.topology.cut(old, Cut { fellows: true, ..Cut::default() });
                self.topology.until_promoted(&key, old).await;
                let promoted = Instant::now();
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..3000))).await;
                self.topology.cut(old, Cut::default());
                self.topology.until_whole().await;
                return Some(promoted);
            }
            Fault::CutClients | Fault::CutAnswers => {
                let primary = self.topology.primary(&key).await?;
                let one_way = fault == Fault::CutAnswers;
                self.topology.cut(primary, Cut { fellows: false, from_clients: !one_way, to_clients: true });
                tokio::time::sleep(Duration::from_millis(rng.random_range(500..6000))).await;
                self.topology.cut(primary, Cut::default());
            }
            Fault::KillClients => {
                for index in 0..self.topology.len() {
                    for kind in ["normal", "pubsub"] {
                        self.topology.command(index, &["CLIENT", "KILL", "TYPE", kind]).await;
                    }
                }
            }
            Fault::FlushReplica => {
                let primary = self.topology.primary(&key).await?;
                let replica = (0..self.topology.len()).filter(|index| *index != primary).collect::<Vec<_>>();
                let replica = *replica.choose(rng)?;
                // A replica takes writes only if it is made to; then it is made to follow again.
                self.topology.command(replica, &["CONFIG", "SET", "replica-read-only", "no"]).await;
                self.topology.command(replica, &["FLUSHALL"]).await;
                self.topology.command(replica, &["CONFIG", "SET", "replica-read-only", "yes"]).await;
                self.topology.restart(replica).await;
                self.topology.until_whole().await;
            }
            Fault::RestartSentinel => {
                let index = rng.random_range(0..3);
                match &mut self.topology {
                    Topology::Sentinel(sentinel) => sentinel.restart_sentinel(index),
                    Topology::Chart(chart) => chart.restart_sentinel(index).await,
                    Topology::Standalone(_) | Topology::Cluster(_) => {}
                }
            }
            Fault::MigrateSlot => {
                if let Topology::Cluster(cluster) = &self.topology {
                    cluster.migrate(&key).await;
                }
            }
            Fault::FillMemory => {
                let primary = self.topology.primary(&key).await?;
                evict(self.topology.node(primary)?).await;
            }
            Fault::KillSidecar => self.sidecars.kill9(rng.random_range(0..self.sidecars.len())).await,
            Fault::KillFanout => self.fanouts[rng.random_range(0..2)].restart().await,
        }
        None
    }
}

/// Most keys that are filled in.
const FILLING: usize = 400;

/// So many keys are evicted, at least.
const EVICTED: u64 = 60;

/// Has a server evict some of its keys, by filling its memory; then it has room again.
async fn evict(server: &Redis) {
    let info = async |section: &str, field: &str| {
        let info = server.command(&["INFO", section]).await.ok()?.text();
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    let (Some(used), Some(before)) =
        (info("memory", "used_memory").await, info("stats", "evicted_keys").await)
    else {
        return;
    };
    let limit = (used + (4 << 20)).to_string();
    for (name, value) in [("maxmemory-policy", "allkeys-random"), ("maxmemory", &limit)] {
        let _ = server.command(&["CONFIG", "SET", name, value]).await;
    }
    let filling = "x".repeat(100 << 10);
    for number in 0..FILLING {
        // In the run's slot, or a cluster's server might not have it.
        let key = format!("{{{RUN}}}:filling:{number}");
        let _ = server.command(&["SET", &key, &filling, "EX", "5"]).await;
        if info("stats", "evicted_keys").await.is_some_and(|now| now >= before + EVICTED) {
            break;
        }
    }
    let _ = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
}
