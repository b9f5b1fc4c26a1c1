//! A Redis that is measured.

use std::time::Duration;

use anyhow::Context;
use runcast_testkit::Redis;
use tokio::runtime::Runtime;

/// One server for one way of publishing.
pub(super) struct Server<'a> {
    pub(super) redis: Redis,
    pub(super) runtime: &'a Runtime,
}

impl Server<'_> {
    /// CPU time that it has used, user and system.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.runtime.block_on(self.used())
    }

    /// The same, inside of the runtime.
    pub(super) async fn used(&self) -> anyhow::Result<Duration> {
        let (user, system) = (self.redis.info("used_cpu_user").await, self.redis.info("used_cpu_sys").await);
        Ok(Duration::from_secs_f64(user.parse::<f64>()? + system.parse::<f64>()?))
    }

    /// Entries that were ever added to a stream, also those that were trimmed since.
    pub(super) fn added(&self, stream: &str) -> anyhow::Result<u64> {
        let reply = self.runtime.block_on(self.redis.command(&["XINFO", "STREAM", stream]))?;
        let mut fields = reply.items().iter().skip_while(|field| field.text() != "entries-added");
        fields.nth(1).context("Redis 7 or later counts the entries added")?.text().parse().context("a number")
    }

    /// The last sequence of a lane; 0 if there is none.
    pub(super) fn last(&self, run: &str, lane: &str) -> anyhow::Result<u64> {
        let key = format!("run:{{{run}}}:lanes");
        let reply = self.runtime.block_on(self.redis.command(&["HGET", &key, lane]))?.text();
        Ok(reply.split(' ').next().and_then(|last| last.parse().ok()).unwrap_or_default())
    }
}
