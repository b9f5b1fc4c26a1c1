//! How each Redis server is: what a dashboard shows of it, and an alert at night. Every replica of the control plane tells
//! the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use opentelemetry::{KeyValue, global};
use runcast_bus::{Bus, BusError, Node, NodeAddress, Nodes, ServerInfo};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::ServersConfig;
use crate::metrics::{SERVER_EVICTED, SERVER_IN_STEP, SERVER_LIMIT, SERVER_MEMORY, SERVER_REPLICAS};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who there are, and what each said when it was last asked; none if it did not answer.
type Seen = Arc<Mutex<BTreeMap<NodeAddress, Option<ServerInfo>>>>;

/// Asks all servers.
#[derive(Debug)]
pub(crate) struct Servers {
    bus: Bus,
    nodes: Nodes,
    known: BTreeMap<NodeAddress, Node>,
    seen: Seen,
}

impl Servers {
    /// Those of `bus`; nobody is asked yet.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub(crate) fn connect(bus: &Bus) -> Result<Self, BusError> {
        let nodes = Nodes::connect(bus)?;
        Ok(Self { bus: bus.clone(), nodes, known: BTreeMap::new(), seen: Seen::default() })
    }

    /// Asks at the interval, for ever; never if it is zero.
    pub(crate) async fn watch(mut self, config: ServersConfig) {
        if config.interval.is_zero() {
            return;
        }
        observe(&global::meter("runcast-control"), &self.seen);
        let mut tick = interval(config.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            tick.tick().await;
            let failed = self.ask_all().await.err();
            if let Some(error) = failed.as_ref().filter(|_| !is_told) {
                let hint = "needs the rights of `runcast acl rules control`; servers.interval = \"0s\" switches it off";
                tracing::warn!(%error, hint, "redis servers could not be asked how they are; trying again");
            }
            is_told = failed.is_some();
        }
    }

    /// Asks those that there are now. Who they are is only known while somebody can say so: until then, those of before.
    async fn ask_all(&mut self) -> Result<(), BusError> {
        let all = within(self.nodes.all()).await;
        if let Ok(all) = &all {
            self.known.retain(|address, _| all.contains(address));
            for address in all {
                if !self.known.contains_key(address) {
                    self.known.insert(address.clone(), Node::connect(&self.bus, address)?);
                }
            }
        }
        let asked =
            self.known.iter().map(async |(address, node)| (address.clone(), within(node.info()).await));
        let answers = join_all(asked).await;
        // One that is down is what this is for; one that refuses is a mistake of ours.
        let refused = answers.iter().find_map(|(_, answer)| match answer {
            Err(BusError::Rejected(why)) => Some(BusError::Rejected(why.clone())),
            _ => None,
        });
        let answers = answers.into_iter().map(|(address, answer)| (address, answer.ok())).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = answers;
        all.map(drop).and(refused.map_or(Ok(()), Err))
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    let answer = timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Err(BusError::Unreachable("no answer in time".into())))
}

fn observe(meter: &Meter, seen: &Seen) {
    let gauge = |name, unit, description, of: fn(Option<&ServerInfo>) -> Option<u64>| {
        let seen = seen.clone();
        let tell = move |to: &dyn AsyncInstrument<u64>| {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for (address, info) in seen.iter() {
                if let Some(value) = of(info.as_ref()) {
                    let attributes = [
                        KeyValue::new("server.address", address.host().to_owned()),
                        KeyValue::new("server.port", i64::from(address.port())),
                    ];
                    to.observe(value, &attributes);
                }
            }
        };
        (name, unit, description, tell)
    };
    let gauges = [
        gauge(SERVER_IN_STEP, "{server}", "1 if it answers, and is primary or follows one", |info| {
            Some(u64::from(info.is_some_and(|info| info.is_in_step)))
        }),
        gauge(SERVER_MEMORY, "By", "Memory used", |info| Some(info?.memory_used)),
        gauge(SERVER_LIMIT, "By", "maxmemory, where there is one", |info| {
            Some(info?.memory_limit).filter(|limit| *limit > 0)
        }),
        gauge(SERVER_REPLICAS, "{server}", "Replicas that follow a primary", |info| {
            info.filter(|info| info.is_primary).map(|info| info.replicas)
        }),
    ];
    for (name, unit, description, tell) in gauges {
        let _ = meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(tell)
            .build();
    }
    let (name, unit, description, tell) =
        gauge(SERVER_EVICTED, "{key}", "Keys deleted to make room", |info| Some(info?.keys_evicted));
    let _ = meter
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(tell)
        .build();
}
