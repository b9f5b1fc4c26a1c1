//! The Redis that is broken.

use std::time::Duration;

use clap::ValueEnum;
use runcast_testkit::{Cluster, Cut, Redis, Sentinel, eventually};

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
            Kind::Sentinel => Self::Sentinel(Sentinel::start_proxied().await),
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
        match self {
            Self::Standalone(_) => Some(0),
            Self::Sentinel(sentinel) => sentinel.primary_index().await,
            Self::Cluster(cluster) => {
                let port = cluster.master_of(key).await?.port;
                cluster.nodes.iter().position(|node| node.port() == port)
            }
        }
    }

    /// Waits until another server than `old` takes the run's writes.
    pub(crate) async fn until_promoted(&self, key: &str, old: usize) {
        match self {
            Self::Standalone(_) => {}
            Self::Sentinel(sentinel) => {
                sentinel.until_promoted(old).await;
            }
            Self::Cluster(_) => {
                eventually("another master", Duration::from_secs(60), async || {
                    self.primary(key).await.filter(|index| *index != old).map(drop)
                })
                .await;
            }
        }
    }

    /// Cuts the network before a server, where there is one to cut.
    pub(crate) fn cut(&self, index: usize, cut: Cut) {
        if let Self::Sentinel(sentinel) = self {
            sentinel.proxies[index].cut(cut);
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
