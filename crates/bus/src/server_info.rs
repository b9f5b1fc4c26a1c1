//! What a server tells of itself.

use std::collections::HashMap;

/// What counts at night of `INFO` (<https://redis.io/docs/latest/commands/info/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInfo {
    /// Whether it takes writes, as far as it knows.
    pub is_primary: bool,
    /// Whether it is a primary, or a replica whose primary answers it.
    pub is_in_step: bool,
    /// Of a primary: replicas that get what is written.
    pub replicas: u64,
    /// Bytes used.
    pub memory_used: u64,
    /// Bytes that may be used; 0: as many as there are.
    pub memory_limit: u64,
    /// Keys deleted to make room, since it was started.
    pub keys_evicted: u64,
}

impl ServerInfo {
    /// Reads an `INFO`; none if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let number = |name: &str| fields.get(name)?.trim().parse().ok();
        let is_primary = fields.get("role")?.trim() == "master";
        // slave0:ip=127.0.0.1,port=6380,state=online,offset=42,lag=0
        let is_replica = |name: &str| {
            name.strip_prefix("slave").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let replicas = fields.iter().filter(|(name, how)| is_replica(name) && how.contains("state=online"));
        Some(Self {
            is_primary,
            is_in_step: is_primary
                || fields.get("master_link_status").is_some_and(|status| status.trim() == "up"),
            replicas: replicas.count() as u64,
            memory_used: number("used_memory")?,
            memory_limit: number("maxmemory")?,
            keys_evicted: number("evicted_keys")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_tell_of_themselves() {
        let primary = "# Memory\r\nused_memory:1024\r\nused_memory_human:1K\r\nmaxmemory:2048\r\n# Stats\r\nevicted_keys:7\r\n\
            # Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=42,lag=0\r\n\
            slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0\r\nslave_expires_tracked_keys:0\r\n";
        let seen = ServerInfo {
            is_primary: true,
            is_in_step: true,
            replicas: 1,
            memory_used: 1024,
            memory_limit: 2048,
            keys_evicted: 7,
        };
        assert_eq!(ServerInfo::parse(primary), Some(seen));
        let replica =
            "used_memory:1\r\nmaxmemory:0\r\nevicted_keys:0\r\nrole:slave\r\nmaster_link_status:down\r\n";
        let seen = ServerInfo::parse(replica).unwrap();
        assert!(!seen.is_primary && !seen.is_in_step);
        assert!(ServerInfo::parse(&replica.replace("down", "up")).unwrap().is_in_step);
        assert_eq!(ServerInfo::parse("-NOPERM"), None);
    }
}
