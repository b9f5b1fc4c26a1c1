//! Agents that write through real sidecars, and remember what was accepted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runcast_testkit::{Process, Sidecar, eventually, unix_post};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{Options, line};

/// The run that all agents belong to.
pub(crate) const RUN: &str = "chaos";
const PATIENCE: Duration = Duration::from_secs(120);

/// What one agent wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Lines that the sidecar said it has.
    pub(crate) accepted: BTreeSet<u64>,
    /// Lines whose request broke off: they may or may not be there.
    pub(crate) unknown: BTreeSet<u64>,
    /// How long each request took.
    pub(crate) latencies: Vec<Duration>,
}

/// Agents at work.
pub(crate) struct Agents {
    sidecars: Sidecars,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Written>>,
    _folder: TempDir,
}

/// The sidecars' processes, for the nemesis.
#[derive(Clone)]
pub(crate) struct Sidecars(Arc<Vec<Slot>>);

struct Slot {
    sidecar: Sidecar,
    socket: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Agents {
    /// Starts the agents and their sidecars, which come to Redis as `user`.
    pub(crate) async fn start(url: &str, user: &[(String, String)], options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut slots = Vec::new();
        for number in 0..options.agents {
            let mut sidecar = Sidecar::new(url, RUN, &number.to_string())
                .set("RUNCAST__RUN__VARIATIONS", options.agents)
                .set("RUNCAST__JOURNAL__FOLDER", folder.path().join(format!("journal-{number}")).display())
                .set("RUNCAST__JOURNAL__FORGET_APPENDED", options.forget);
            for (name, value) in user {
                sidecar = sidecar.set(name, value);
            }
            let socket = folder.path().join(format!("{number}.sock"));
            let process = sidecar.serve(&socket).await;
            slots.push(Slot { sidecar, socket, process: Mutex::new(Some(process)) });
        }
        let (sidecars, stop) = (Sidecars(Arc::new(slots)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..options.agents)
            .map(|agent| {
                let rate = options.rate as f64 / options.agents as f64;
                tokio::spawn(write(agent, sidecars.0[agent].socket.clone(), rate, stop.clone()))
            })
            .collect();
        Self { sidecars, stop, tasks, _folder: folder }
    }

    /// The sidecars' processes.
    pub(crate) fn handle(&self) -> Sidecars {
        self.sidecars.clone()
    }

    /// Stops writing, finishes every variation, and tells what was written.
    pub(crate) async fn finish(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for task in self.tasks {
            written.push(task.await.unwrap());
        }
        for slot in self.sidecars.0.iter() {
            let finish = async || {
                let answer = unix_post(&slot.socket, "/v1/finish", "application/json", "{}").await.ok()?;
                (answer.0 == 200).then_some(())
            };
            eventually("a variation finishes", PATIENCE, finish).await;
        }
        written
    }
}

impl Sidecars {
    /// Where they listen.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        self.0.iter().map(|slot| slot.socket.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// kill -9 of a sidecar, and its restart with the same journal.
    pub(crate) async fn kill9(&self, index: usize) {
        let slot = &self.0[index];
        drop(slot.process.lock().unwrap().take());
        let process = slot.sidecar.serve(&slot.socket).await;
        *slot.process.lock().unwrap() = Some(process);
    }

    /// What the sidecars logged, for reports of failure.
    pub(crate) fn logs(&self) -> Vec<String> {
        self.0.iter().filter_map(|slot| Some(slot.process.lock().unwrap().as_ref()?.log())).collect()
    }
}

/// Writes lines at a rate, several to a request, until told to stop.
async fn write(agent: usize, socket: PathBuf, rate: f64, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    let begun = Instant::now();
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        if next > due {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        // Who was held back does not make up for all of it at once.
        let lines = next..=due.min(next + 99);
        next = lines.end() + 1;
        let messages: Vec<_> = lines
            .clone()
            .map(|number| serde_json::json!({"type": "output", "content": line::write(agent, number)}))
            .collect();
        let asked = Instant::now();
        if post(&socket, serde_json::to_string(&messages).unwrap()).await {
            written.latencies.push(asked.elapsed());
            written.accepted.extend(lines);
        } else {
            written.unknown.extend(lines);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    written
}

async fn post(socket: &Path, body: String) -> bool {
    let answer =
        tokio::time::timeout(PATIENCE, unix_post(socket, "/v1/messages", "application/json", body)).await;
    match answer {
        Ok(Ok((200, _))) => true,
        Ok(Ok((status, body))) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
        Ok(Err(_)) => false,
        Err(_) => panic!("a sidecar did not answer within {PATIENCE:?}"),
    }
}
