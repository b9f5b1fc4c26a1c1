//! Finds out which appended messages are safe, and so may be let go of.
//!
//! "Appended, then WAIT" would lose messages: after a failover in between, the WAIT runs on the new
//! primary and confirms what that never had. Only what the very server that confirmed says it holds
//! counts as safe; see [`runcast_bus::Bus::fence`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runcast_bus::{Bus, Durability, Fenced};
use runcast_protocol::{Lane, RunId, Sequence};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::open_lane::OpenLane;

/// How often it is asked, while something is appended and not known to be safe.
const EVERY: Duration = Duration::from_millis(100);
/// How long a server may take to hear from a replica, or to fsync.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often a server is asked how it can make messages safe.
const ASK_DURABILITY: Duration = Duration::from_secs(5);
/// Where nothing can be asked: older than the fsync interval of one second, with a margin.
const AGE: Duration = Duration::from_secs(2);

/// The task that finds out.
pub(crate) struct Safety {
    bus: Bus,
    run: RunId,
    lanes: Vec<Arc<OpenLane>>,
    ttl: Duration,
    durability: Option<(Durability, Instant)>,
    /// What fences saw, where only age makes safe.
    seen: VecDeque<(Instant, BTreeMap<Lane, Sequence>)>,
    promise: Promise,
}

/// Whether the topology can tell soon that messages are safe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise(Arc<AtomicBool>);

impl Promise {
    pub(crate) fn can_be_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Safety {
    pub(crate) fn new(bus: &Bus, run: &RunId, lanes: &[Arc<OpenLane>], ttl: Duration) -> (Self, Promise) {
        let promise = Promise::default();
        let (durability, seen) = (None, VecDeque::new());
        let (bus, run, lanes) = (bus.clone(), run.clone(), lanes.to_vec());
        (Self { bus, run, lanes, ttl, durability, seen, promise: promise.clone() }, promise)
    }

    pub(crate) async fn run(mut self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let appended = self.appended();
            if appended.is_empty() {
                self.seen.clear();
            } else if let Err(error) = self.ask(&appended).await {
                tracing::debug!(%error, "cannot ask what is safe");
                self.durability = None;
            }
        }
    }

    /// Where the lanes stand that hold something appended and not safe.
    fn appended(&self) -> BTreeMap<Lane, Sequence> {
        let held = self.lanes.iter().filter_map(|lane| {
            let queue = &lane.lock().queue;
            (queue.unsafe_count() > 0).then_some((lane.lane.clone(), queue.appended()?))
        });
        held.collect()
    }

    async fn ask(&mut self, appended: &BTreeMap<Lane, Sequence>) -> Result<(), runcast_bus::BusError> {
        let durability = match self.durability {
            Some((durability, asked)) if asked.elapsed() < ASK_DURABILITY => durability,
            _ => {
                let durability = self.bus.durability(&self.run).await?;
                self.promise.0.store(durability != Durability::Aged, Ordering::Relaxed);
                self.durability.insert((durability, Instant::now())).0
            }
        };
        let asked = Instant::now();
        let Fenced { lanes, confirmed } = self.bus.fence(&self.run, durability, self.ttl, PATIENCE).await?;
        for lane in &self.lanes {
            let stands = lanes.get(&lane.lane).copied().unwrap_or_default();
            if appended.get(&lane.lane).is_some_and(|appended| stands < *appended) {
                // A failover lost what had been appended: the writer finds out how much, and sends it again.
                lane.probe_soon();
            }
        }
        let safe = match durability {
            Durability::Replicated | Durability::Fsynced => confirmed.then_some(lanes),
            Durability::Aged => self.aged(asked, lanes),
        };
        if let Some(safe) = safe {
            for lane in &self.lanes {
                if let Some(last) = safe.get(&lane.lane) {
                    lane.secure(*last);
                }
            }
            self.lanes.iter().for_each(|lane| lane.tell_moved());
        }
        Ok(())
    }

    /// What was there long ago, and has been all the time since.
    fn aged(&mut self, asked: Instant, lanes: BTreeMap<Lane, Sequence>) -> Option<BTreeMap<Lane, Sequence>> {
        for (_, seen) in &mut self.seen {
            for (lane, last) in seen {
                *last = (*last).min(lanes.get(lane).copied().unwrap_or_default());
            }
        }
        self.seen.push_back((asked, lanes));
        let mut safe = None;
        while self.seen.front().is_some_and(|(at, _)| at.elapsed() >= AGE) {
            safe = self.seen.pop_front().map(|(_, lanes)| lanes);
        }
        safe
    }
}
