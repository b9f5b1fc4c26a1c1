//! The Redis that is broken.

use clap::ValueEnum;
use runcast_testkit::{Cluster, Redis, Sentinel};

/// Which Redis to run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One server with an append-only file.
    Standalone,
    /// One primary, two replicas, three sentinels.
    Sentinel,
    /// Three masters with a replica each.
    Cluster,
}

/// A running Redis.
pub(crate) enum Topology {
    /// See [`Kind::Standalone`].
    Standalone(Redis),
    /// See [`Kind::Sentinel`].
    Sentinel(Sentinel),
    /// See [`Kind::Cluster`].
    Cluster(Cluster),
}

impl Topology {
    /// Starts one.
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Standalone => Self::Standalone(Redis::builder().set("appendonly", "yes").start().await),
            Kind::Sentinel => Self::Sentinel(Sentinel::start().await),
            Kind::Cluster => Self::Cluster(Cluster::start().await),
        }
    }

    /// The address as the services take it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Standalone(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Its servers.
    pub(crate) fn nodes(&mut self) -> &mut [Redis] {
        match self {
            Self::Standalone(redis) => std::slice::from_mut(redis),
            Self::Sentinel(sentinel) => &mut sentinel.nodes,
            Self::Cluster(cluster) => &mut cluster.nodes,
        }
    }

    /// Which server takes the run's writes now.
    pub(crate) async fn primary(&self, key: &str) -> Option<usize> {
        let (port, nodes) = match self {
            Self::Standalone(_) => return Some(0),
            Self::Sentinel(sentinel) => (sentinel.primary().await?, &sentinel.nodes),
            Self::Cluster(cluster) => (cluster.master_of(key).await?.port, &cluster.nodes),
        };
        nodes.iter().position(|node| node.port() == port)
    }

    /// Waits until another server than `old` takes the run's writes.
    pub(crate) async fn until_promoted(&self, key: &str, old: usize) {
        if !matches!(self, Self::Standalone(_)) {
            runcast_testkit::eventually("another primary", std::time::Duration::from_secs(60), async || {
                let index = self.primary(key).await.filter(|index| *index != old)?;
                let port = match self {
                    Self::Sentinel(sentinel) => sentinel.nodes[index].port(),
                    Self::Cluster(cluster) => cluster.nodes[index].port(),
                    Self::Standalone(_) => return Some(()),
                };
                let role = runcast_testkit::command(port, &["ROLE"]).await.ok()?;
                (role.items().first()?.text() == "master").then_some(())
            })
            .await;
        }
    }

    /// Waits until all replicas are in step.
    pub(crate) async fn until_whole(&self) {
        match self {
            Self::Standalone(_) => {}
            Self::Sentinel(sentinel) => sentinel.until_replicated().await,
            Self::Cluster(cluster) => cluster.until_complete().await,
        }
    }
}
