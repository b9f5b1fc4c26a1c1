//! Viewers that come and go, and one that stays and measures.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::Lane;
use runcast_testkit::{History, Viewer};
use tokio::task::JoinHandle;

use crate::agents::RUN;
use crate::silences::Silences;

const PATIENCE: Duration = Duration::from_secs(300);

/// Viewers at work.
pub(crate) struct Watchers {
    ports: [u16; 2],
    tasks: Vec<JoinHandle<Seen>>,
}

/// What one viewer saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// All of it; order and repetition are checked as it comes.
    pub(crate) history: History,
    /// When nothing came.
    pub(crate) silences: Silences,
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
        Self { ports, tasks: tasks.collect() }
    }

    /// Waits until all have seen the end. The last is one that came only now: what the others saw must
    /// still be there for him.
    pub(crate) async fn finish(mut self) -> Vec<Result<Seen, String>> {
        self.tasks.push(tokio::spawn(watch(self.ports, false, SmallRng::seed_from_u64(0))));
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
    let (mut silences, mut connections) = (Silences::new(), 0);
    while viewer.history.end.is_none() {
        viewer.set_port(ports[rng.random_range(0..2)]);
        connections += 1;
        match viewer.reconnect(PATIENCE).await.expect("a fan-out") {
            200 => {}
            // It left between the last message and the end: there is nothing more to see.
            204 => break,
            status => panic!("a viewer was answered {status}"),
        }
        let leaves = restless.then(|| Instant::now() + Duration::from_millis(rng.random_range(1..3000)));
        while leaves.is_none_or(|at| Instant::now() < at) {
            match tokio::time::timeout(Duration::from_millis(200), viewer.next()).await {
                Ok(Ok(Some(_))) => {
                    silences.broken();
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
    /// How many messages of a lane it was told it cannot have.
    pub(crate) fn missed(&self, lane: &Lane) -> usize {
        let gaps = self.history.gaps.iter().filter(|gap| gap.lane == *lane);
        gaps.map(|gap| (gap.last.get() - gap.first.get() + 1) as usize).sum()
    }
}
