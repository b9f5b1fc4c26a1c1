//! When nothing was appended to Redis, as the sidecars say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runcast_testkit::unix_get;
use tokio::task::JoinHandle;

use crate::silences::Silences;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Watches how far the sidecars' output has come into Redis.
pub(crate) struct Writes(JoinHandle<Silences>, tokio::sync::oneshot::Sender<()>);

impl Writes {
    /// Begins to watch the sidecars behind `sockets`.
    pub(crate) fn watch(sockets: Vec<PathBuf>) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut silences, mut before) = (Silences::new(), Vec::new());
            while stopped.try_recv().is_err() {
                let mut positions = Vec::with_capacity(sockets.len());
                for (number, socket) in sockets.iter().enumerate() {
                    positions.push(appended(socket, number).await);
                }
                if positions != before {
                    silences.broken();
                    before = positions;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            silences
        });
        Self(task, stop)
    }

    /// What was seen.
    pub(crate) async fn finish(self) -> Silences {
        // A task that is over needs no telling.
        let _ = self.1.send(());
        self.0.await.unwrap()
    }
}

/// None while the sidecar is dead, or has not reached Redis.
async fn appended(socket: &Path, variation: usize) -> Option<u64> {
    let asked = tokio::time::timeout(Duration::from_secs(1), unix_get(socket, "/v1/status")).await;
    let report: serde_json::Value = serde_json::from_slice(&asked.ok()?.ok()?.1).ok()?;
    report["lanes"][format!("output/{variation}")]["appended"].as_u64()
}
