//! Redis Cluster: three masters, a replica each.

use std::time::Duration;

use crate::redis::Redis;
use crate::resp::{Reply, command};
use crate::wait::eventually;

const SLOTS: u16 = 16384;

/// Three masters with a replica each.
#[derive(Debug)]
pub struct Cluster {
    /// The servers, dead or alive; the first three were masters at the beginning.
    pub nodes: Vec<Redis>,
}

/// A node as the cluster sees it.
#[derive(Debug, Clone)]
pub struct ClusterNode {
    /// Its id.
    pub id: String,
    /// Its port.
    pub port: u16,
    /// Whether it is a master that is not failing.
    pub is_master: bool,
    /// The slots it serves, first and last.
    pub slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts all, and waits until the cluster is complete.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let builder = Redis::builder()
                .set("cluster-enabled", "yes")
                .set("cluster-node-timeout", "1500")
                .set("cluster-replica-validity-factor", "0")
                .set("appendonly", "yes")
                .set("repl-diskless-sync-delay", "0");
            nodes.push(builder.start().await);
        }
        let cluster = Self { nodes };
        for index in 0..3u16 {
            let (first, last) = (index * SLOTS / 3, (index + 1) * SLOTS / 3 - 1);
            cluster
                .run(index.into(), &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])
                .await;
        }
        for node in &cluster.nodes[1..] {
            cluster.run(0, &["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]).await;
        }
        cluster.until("all nodes know one another", async |cluster| cluster.nodes().await.len() == 6).await;
        for index in 3..6 {
            let id = cluster.run(index - 3, &["CLUSTER", "MYID"]).await.text();
            eventually("a replica follows its master", Duration::from_secs(30), async || {
                let reply = cluster.nodes[index].command(&["CLUSTER", "REPLICATE", &id]).await.ok()?;
                (reply.text() == "OK").then_some(())
            })
            .await;
        }
        cluster.until_complete().await;
        cluster
    }

    /// The address as the services take it.
    pub fn url(&self) -> String {
        let others: Vec<_> =
            self.nodes[1..].iter().map(|node| format!("node=127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://127.0.0.1:{}?{}", self.nodes[0].port(), others.join("&"))
    }

    /// The nodes, as one that answers sees them.
    pub async fn nodes(&self) -> Vec<ClusterNode> {
        for node in &self.nodes {
            if let Ok(Reply::Text(text)) = node.command(&["CLUSTER", "NODES"]).await {
                return String::from_utf8_lossy(&text).lines().filter_map(parse).collect();
            }
        }
        Vec::new()
    }

    /// The master that serves a key.
    pub async fn master_of(&self, key: &str) -> Option<ClusterNode> {
        let slot = self.slot(key).await?;
        let mut masters = self.nodes().await.into_iter().filter(|node| node.is_master);
        masters.find(|node| node.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot)))
    }

    /// The slot of a key.
    pub async fn slot(&self, key: &str) -> Option<u16> {
        for node in &self.nodes {
            if let Ok(Reply::Number(slot)) = node.command(&["CLUSTER", "KEYSLOT", key]).await {
                return slot.try_into().ok();
            }
        }
        None
    }

    /// Moves the slot of `key`, with all its keys, to another master, as `redis-cli --cluster reshard` does.
    pub async fn migrate(&self, key: &str) {
        let slot = self.slot(key).await.expect("a slot").to_string();
        let from = self.master_of(key).await.expect("a master");
        let masters = self.nodes().await;
        let to = masters.iter().find(|node| node.is_master && node.id != from.id).expect("another master");
        let ok = async |port: u16, arguments: &[&str]| command(port, arguments).await.expect("an answer");
        ok(to.port, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id]).await;
        ok(from.port, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id]).await;
        loop {
            // One at a time: the server does nothing else meanwhile, and a large stream takes long.
            let keys = ok(from.port, &["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).await;
            if keys.items().is_empty() {
                break;
            }
            let port = to.port.to_string();
            let mut arguments = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "REPLACE", "KEYS"];
            let keys: Vec<_> = keys.items().iter().map(Reply::text).collect();
            arguments.extend(keys.iter().map(String::as_str));
            ok(from.port, &arguments).await;
        }
        for port in [to.port, from.port] {
            ok(port, &["CLUSTER", "SETSLOT", &slot, "NODE", &to.id]).await;
        }
    }

    /// Waits until every slot is served and every master has a replica in step.
    pub async fn until_complete(&self) {
        self.until("the cluster is complete", async |cluster| {
            for node in &cluster.nodes {
                let Ok(info) = node.command(&["CLUSTER", "INFO"]).await else { return false };
                if !info.text().contains("cluster_state:ok") {
                    return false;
                }
            }
            let masters: Vec<_> = cluster
                .nodes()
                .await
                .into_iter()
                .filter(|node| node.is_master && !node.slots.is_empty())
                .collect();
            for master in &masters {
                let Ok(info) = command(master.port, &["INFO", "replication"]).await else { return false };
                if !info.text().contains("state=online") {
                    return false;
                }
            }
            masters.len() == 3
        })
        .await;
    }

    async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        eventually(what, Duration::from_secs(60), async || condition(self).await.then_some(())).await;
    }

    async fn run(&self, index: usize, arguments: &[&str]) -> Reply {
        let reply = self.nodes[index].command(arguments).await.expect("an answer");
        assert!(!matches!(reply, Reply::Error(_)), "{arguments:?}: {reply:?}");
        reply
    }
}

/// A line of CLUSTER NODES: `<id> <ip:port@cport> <flags> <master> … <slots>`.
fn parse(line: &str) -> Option<ClusterNode> {
    let fields: Vec<&str> = line.split(' ').collect();
    let port = fields.get(1)?.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let flags = fields.get(2)?;
    let slots = fields.iter().skip(8).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let is_master = flags.contains("master") && !flags.contains("fail");
    Some(ClusterNode { id: (*fields.first()?).to_owned(), port, is_master, slots: slots.collect() })
}
