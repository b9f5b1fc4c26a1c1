//! Redis with Sentinel: one primary, two replicas, three sentinels.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::proxy::Proxy;
use crate::redis::{Redis, program};
use crate::resp::command;
use crate::wait::eventually;

const NAME: &str = "runcast";

/// A primary, two replicas and three sentinels, set up as the chart does.
#[derive(Debug)]
pub struct Sentinel {
    /// The servers, dead or alive.
    pub nodes: Vec<Redis>,
    /// The network before each of them; none if it is not to be cut.
    pub proxies: Vec<Proxy>,
    /// The sentinels' ports.
    ports: Vec<u16>,
    sentinels: Vec<Option<Process>>,
    folder: TempDir,
}

impl Sentinel {
    /// Starts all, and waits until the sentinels agree and the replicas are in step.
    pub async fn start() -> Self {
        Self::start_in(false).await
    }

    /// The same, in a network that can be cut.
    pub async fn start_proxied() -> Self {
        Self::start_in(true).await
    }

    async fn start_in(network: bool) -> Self {
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        let mut primary = None;
        for _ in 0..3 {
            // The address that a server is known by must stand before it starts.
            let port = free_port();
            let mut address = port;
            if network {
                let proxy = Proxy::start(port).await;
                address = proxy.port();
                proxies.push(proxy);
            }
            nodes.push(node(port, address, primary).await);
            primary.get_or_insert(address);
        }
        let primary = primary.expect("three nodes");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = vec![free_port(), free_port(), free_port()];
        let mut sentinel = Self { nodes, proxies, ports, sentinels: vec![None, None, None], folder };
        for (index, port) in sentinel.ports.clone().into_iter().enumerate() {
            let config = format!(
                "port {port}\nbind 127.0.0.1\ndir {dir}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 5000\n\
                 sentinel parallel-syncs {NAME} 2\n",
                dir = sentinel.folder.path().display(),
            );
            std::fs::write(sentinel.config(index), config).expect("a configuration file");
            sentinel.restart_sentinel(index);
        }
        for port in &sentinel.ports {
            eventually("the sentinels know one another", Duration::from_secs(30), async || {
                let reply = command(*port, &["SENTINEL", "CKQUORUM", NAME]).await.ok()?;
                let replicas = command(*port, &["SENTINEL", "REPLICAS", NAME]).await.ok()?;
                (reply.text().starts_with("OK 3") && replicas.items().len() == 2).then_some(())
            })
            .await;
        }
        sentinel.until_replicated().await;
        sentinel
    }

    /// The address as the services take it.
    pub fn url(&self) -> String {
        let [first, rest @ ..] = self.ports.as_slice() else { unreachable!("three sentinels") };
        let others: Vec<_> = rest.iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
        format!("redis-sentinel://127.0.0.1:{first}?sentinelServiceName={NAME}&{}", others.join("&"))
    }

    /// The primary's port, as the sentinels that answer say.
    pub async fn primary(&self) -> Option<u16> {
        for port in &self.ports {
            if let Ok(reply) = command(*port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await
                && let Some(port) = reply.items().get(1)
            {
                return port.text().parse().ok();
            }
        }
        None
    }

    /// Which of the nodes is the primary.
    pub async fn primary_index(&self) -> Option<usize> {
        let address = self.primary().await?;
        (0..self.nodes.len()).find(|index| self.address(*index) == address)
    }

    /// The port by which the sentinels know a node.
    pub fn address(&self, index: usize) -> u16 {
        self.proxies.get(index).map_or_else(|| self.nodes[index].port(), Proxy::port)
    }

    /// Waits until the sentinels name another primary than the node `old`, and that takes writes;
    /// which it is.
    pub async fn until_promoted(&self, old: usize) -> usize {
        eventually("another primary was promoted", Duration::from_secs(60), async || {
            let index = self.primary_index().await.filter(|index| *index != old)?;
            let role = self.nodes[index].command(&["ROLE"]).await.ok()?;
            (role.items().first()?.text() == "master").then_some(index)
        })
        .await
    }

    /// Waits until the primary has two replicas that are in step.
    pub async fn until_replicated(&self) {
        eventually("two replicas are in step", Duration::from_secs(60), async || {
            let primary = &self.nodes[self.primary_index().await?];
            let info = primary.command(&["INFO", "replication"]).await.ok()?.text();
            (info.matches("state=online").count() == 2).then_some(())
        })
        .await;
    }

    /// kill -9 of a sentinel, and its restart.
    pub fn restart_sentinel(&mut self, index: usize) {
        self.sentinels[index] = None;
        let mut command = Command::new(program());
        command.arg(self.config(index)).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        self.sentinels[index] = Some(Process::start("redis-sentinel", command));
    }

    /// kill -9 of a sentinel.
    pub fn kill_sentinel(&mut self, index: usize) {
        self.sentinels[index] = None;
    }

    /// Sends all servers a signal.
    pub fn signal(&self, signal: Signal) {
        self.sentinels.iter().flatten().for_each(|process| process.signal(signal));
    }

    fn config(&self, index: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("sentinel-{index}.conf"))
    }
}

async fn node(port: u16, address: u16, primary: Option<u16>) -> Redis {
    let mut builder = Redis::builder()
        .port(port)
        .set("replica-announce-ip", "127.0.0.1")
        .set("replica-announce-port", &address.to_string())
        .set("appendonly", "yes")
        .set("min-replicas-to-write", "1")
        .set("min-replicas-max-lag", "2")
        .set("repl-diskless-sync-delay", "0")
        .set("repl-ping-replica-period", "1")
        .set("repl-timeout", "5");
    if let Some(port) = primary {
        builder = builder.set("replicaof", &format!("127.0.0.1 {port}"));
    }
    builder.start().await
}
