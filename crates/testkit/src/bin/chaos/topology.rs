//! The Redis that is broken.

use std::time::Duration;

use clap::ValueEnum;
use runcast_bus::RedisConfig;
use runcast_testkit::{Chart, Cluster, Cut, Redis, Sentinel, eventually};

/// Which Redis to run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One server with an append-only file.
    Standalone,
    /// One primary, two replicas, three sentinels.
    Sentinel,
    /// Three masters with a replica each.
    Cluster,
    /// As the chart makes it: Sentinel with TLS only, and a user for each service.
    Chart,
}

/// A running Redis.
pub(crate) enum Topology {
    /// See [`Kind::Standalone`].
    Standalone(Redis),
    /// See [`Kind::Sentinel`].
    Sentinel(Sentinel),
    /// See [`Kind::Cluster`].
    Cluster(Cluster),
    /// See [`Kind::Chart`].
    Chart(Box<Chart>),
}

impl Topology {
    /// Starts one.
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Standalone => Self::Standalone(Redis::builder().set("appendonly", "yes").start().await),
            Kind::Sentinel => Self::Sentinel(Sentinel::start_proxied().await),
            Kind::Cluster => Self::Cluster(Cluster::start().await),
            Kind::Chart => Self::Chart(Box::new(Chart::start().await)),
        }
    }

    /// The address as the services take it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Standalone(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Chart(chart) => chart.url(),
        }
    }

    /// What a service needs beside the address to be the user `name`; nothing where there are no users.
    pub(crate) fn settings(&self, name: &str) -> Vec<(String, String)> {
        if let Self::Chart(chart) = self { chart.settings(name) } else { Vec::new() }
    }

    /// The way in of who reads runs, and nothing else.
    pub(crate) fn reader(&self) -> RedisConfig {
        let mut config = RedisConfig::new(self.url());
        if let Self::Chart(chart) = self {
            config.ca_file = chart.ca_file();
            config.username = "runcast-replay".into();
            config.password = chart.password(&config.username).expect("the chart's user").into();
        }
        config
    }

    /// How many servers it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Standalone(_) => 1,
            Self::Sentinel(sentinel) => sentinel.nodes.len(),
            Self::Cluster(cluster) => cluster.nodes.len(),
            Self::Chart(_) => 3,
        }
    }

    /// A server that we started ourselves: none of the chart's.
    pub(crate) fn node(&mut self, index: usize) -> Option<&mut Redis> {
        match self {
            Self::Standalone(redis) => Some(redis),
            Self::Sentinel(sentinel) => sentinel.nodes.get_mut(index),
            Self::Cluster(cluster) => cluster.nodes.get_mut(index),
            Self::Chart(_) => None,
        }
    }

    /// kill -9 of a server.
    pub(crate) async fn kill9(&mut self, index: usize) {
        match self {
            Self::Chart(chart) => chart.kill9(index).await,
            ours => ours.node(index).expect("a server").kill9(),
        }
    }

    /// Starts a server again, killing it first if it runs.
    pub(crate) async fn restart(&mut self, index: usize) {
        match self {
            Self::Chart(chart) => {
                chart.kill9(index).await;
                chart.launch(index, "start").await;
            }
            ours => ours.node(index).expect("a server").restart().await,
        }
    }

    /// SIGSTOP of a server, or SIGCONT.
    pub(crate) async fn freeze(&mut self, index: usize, frozen: bool) {
        match self {
            Self::Chart(chart) => chart.freeze(index, frozen).await,
            ours => {
                let node = ours.node(index).expect("a server");
                if frozen { node.freeze() } else { node.thaw() }
            }
        }
    }

    /// Sends a server a command; what it answers is of no interest.
    pub(crate) async fn command(&mut self, index: usize, words: &[&str]) {
        match self {
            Self::Chart(chart) => chart.command(index, words).await,
            ours => drop(ours.node(index).expect("a server").command(words).await),
        }
    }

    /// What Redis refused to its users, where there are any.
    pub(crate) async fn refusals(&self) -> Vec<String> {
        if let Self::Chart(chart) = self { chart.refusals().await } else { Vec::new() }
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
            Self::Chart(chart) => chart.primary().await,
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
            Self::Chart(chart) => chart.until_promoted(old).await,
        }
    }

    /// Cuts the network before a server, where there is one to cut.
    pub(crate) fn cut(&self, index: usize, cut: Cut) {
        match self {
            Self::Sentinel(sentinel) => sentinel.proxies[index].cut(cut),
            Self::Chart(chart) => chart.cut(index, cut),
            Self::Standalone(_) | Self::Cluster(_) => {}
        }
    }

    /// Waits until all replicas are in step.
    pub(crate) async fn until_whole(&self) {
        match self {
            Self::Standalone(_) => {}
            Self::Sentinel(sentinel) => sentinel.until_replicated().await,
            Self::Cluster(cluster) => cluster.until_complete().await,
            Self::Chart(chart) => chart.until_whole().await,
        }
    }
}
