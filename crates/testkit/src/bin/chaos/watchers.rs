//! Viewers that come and go, and one that stays and measures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_testkit::{History, Viewer};
use tokio::task::JoinHandle;

use crate::agents::RUN;

const PATIENCE: Duration = Duration::from_secs(300);

/// Viewers at work.
pub(crate) struct Watchers {
    tasks: Vec<JoinHandle<Seen>>,
}

/// What one viewer saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// All of it; order and repetition are checked as it comes.
    pub(crate) history: History,
    /// When something came: silences of more than 100 ms, from when to when.
    pub(crate) silences: Vec<(Instant, Instant)>,
    /// How often it connected.
    pub(crate) connections: usize,
}

impl Watchers {
    /// A steady viewer and `count` restless ones, on both fan-outs.
    pub(crate) fn start(ports: [u16; 2], count: usize, seed: u64) -> Self {
        let tasks = (0..=count).map(|number| {
            let rng = SmallRng::seed_from_u64(seed ^ number as u64);
            tokio::spawn(watch(ports, number > 0, rng))
        });
        Self { tasks: tasks.collect() }
    }

    /// Waits until all have seen the end.
    pub(crate) async fn finish(self) -> Vec<Result<Seen, String>> {
        let mut seen = Vec::new();
        for (number, task) in self.tasks.into_iter().enumerate() {
            let outcome = tokio::time::timeout(PATIENCE, task).await;
            seen.push(match outcome {
                Ok(Ok(viewer)) => Ok(viewer),
                Ok(Err(failure)) => Err(format!("viewer {number}: {}", reason(failure))),
                Err(_) => Err(format!("viewer {number}: no end within {PATIENCE:?}")),
            });
        }
        seen
    }
}

fn reason(failure: tokio::task::JoinError) -> String {
    let Ok(panic) = failure.try_into_panic() else { return "cancelled".to_owned() };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

async fn watch(ports: [u16; 2], restless: bool, mut rng: SmallRng) -> Seen {
    let mut viewer = Viewer::new(ports[0], RUN, "channels=output,status");
    let (mut silences, mut last, mut connections) = (Vec::new(), Instant::now(), 0);
    while viewer.history.end.is_none() {
        viewer.set_port(ports[rng.random_range(0..2)]);
        connections += 1;
        if viewer.reconnect(PATIENCE).await.expect("a fan-out") != 200 {
            continue;
        }
        let leaves = restless.then(|| Instant::now() + Duration::from_millis(rng.random_range(1..3000)));
        while leaves.is_none_or(|at| Instant::now() < at) {
            match tokio::time::timeout(Duration::from_millis(200), viewer.next()).await {
                Ok(Ok(Some(_))) => {
                    if last.elapsed() > Duration::from_millis(100) {
                        silences.push((last, Instant::now()));
                    }
                    last = Instant::now();
                    if viewer.history.end.is_some() {
                        break;
                    }
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
        viewer.drop_connection();
    }
    let history = std::mem::take(&mut viewer.history);
    Seen { history, silences, connections }
}

impl Seen {
    /// The longest silence that overlaps a stretch of time.
    pub(crate) fn stall(&self, from: Instant, to: Instant) -> Duration {
        let overlapping = self.silences.iter().filter(|(begun, ended)| *begun < to && *ended > from);
        overlapping.map(|(begun, ended)| ended.duration_since((*begun).max(from))).max().unwrap_or_default()
    }

    /// How many gaps were told, by lane.
    pub(crate) fn gaps(&self) -> BTreeMap<String, u64> {
        let mut gaps = BTreeMap::new();
        for gap in &self.history.gaps {
            *gaps.entry(gap.lane.to_string()).or_default() += gap.last.get() - gap.first.get() + 1;
        }
        gaps
    }
}
