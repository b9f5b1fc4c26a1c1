//! What the replay service makes of the run: its archive and its read model.

use std::time::{Duration, Instant};

use runcast_testkit::{Replay, eventually, http_get, http_post};
use serde_json::Value;
use tempfile::TempDir;

use crate::agents::RUN;
use crate::topology::Topology;

const PATIENCE: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(20);

/// The replay service, which archives the run and keeps its read model while things break.
pub(crate) struct Record {
    replay: Replay,
    _archive: TempDir,
}

impl Record {
    /// Starts it.
    pub(crate) async fn start(topology: &Topology) -> Self {
        let archive = tempfile::tempdir().unwrap();
        let folder = format!("file://{}", archive.path().display());
        let user = topology.settings("runcast-replay");
        let mut settings: Vec<_> = user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        settings.extend([
            ("RUNCAST__ARCHIVE__URL", folder.as_str()),
            ("RUNCAST__ARCHIVE__INTERVAL", "500ms"),
            // Often, so that much is archived while things break.
            ("RUNCAST__ARCHIVE__SEGMENT_AGE", "5s"),
        ]);
        Self { replay: Replay::start_with(&topology.url(), &settings).await, _archive: archive }
    }

    /// Waits until the whole run is archived, then checks that the archive is what it says, and that the
    /// read model that was kept live is the one that is made anew: unless keys were `evicted`. What is wrong,
    /// if anything is.
    pub(crate) async fn check(&self, evicted: bool) -> Vec<String> {
        let archived = self.replay.url(&format!("/v1/archive/{RUN}"));
        let segments = eventually("the run is archived", PATIENCE, async || {
            let (status, _, body) = http_get(&archived, &[]).await.ok()?;
            let archived: Value = serde_json::from_slice(&body).ok()?;
            (status == 200 && archived["complete"] == true).then(|| archived["segments"].clone())
        });
        let (segments, mut problems) = (segments.await, Vec::new());
        let verified = self.post(&format!("/v1/archive/{RUN}/verify")).await;
        if verified["ok"] != true {
            problems.push(format!("archive: {verified}"));
        }
        // The one that is kept may still be taking in the last messages.
        let mut rebuilt = Value::Null;
        let begun = Instant::now();
        while rebuilt["equal"] != true && begun.elapsed() < SETTLED {
            rebuilt = self.post(&format!("/v1/runs/{RUN}/rebuild")).await;
        }
        // What was evicted before it was archived cannot be counted again.
        if rebuilt["equal"] != true && !evicted {
            problems.push(format!("read model: {rebuilt}"));
        }
        let log = self.replay.log();
        let refused = log.lines().filter(|line| line.contains("NOPERM"));
        problems.extend(refused.map(|line| format!("refused by redis: {line}")));
        println!(
            "archive: {segments} segments, {} messages; read model equal to the one made anew: {}",
            verified["messages"], rebuilt["equal"]
        );
        problems
    }

    async fn post(&self, path: &str) -> Value {
        let url = self.replay.url(path);
        eventually("the replay service answers", PATIENCE, async || {
            let (status, body) = http_post(&url).await.ok()?;
            (status == 200).then(|| serde_json::from_slice(&body).ok())?
        })
        .await
    }
}
