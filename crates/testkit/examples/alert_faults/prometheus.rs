//! A real Prometheus with the chart's rules, in a hurry: a minute of theirs is a second here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runcast_testkit::{Process, free_port, http_get};
use tempfile::TempDir;

/// How long a fault may take to be told of.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long all is to be well before: longer than any rule looks back, in a hurry.
const PEACE: Duration = Duration::from_secs(17);
/// What is a sixtieth here: windows, delays, and thresholds that are times. What a sidecar holds is some seconds old at
/// its best, so of that a sixth.
const HURRY: [(&str, &str); 13] = [
    ("[5m]", "[5s]"),
    ("[10m]", "[10s]"),
    ("[15m]", "[15s]"),
    ("[1d]", "[24m]"),
    ("offset 10m", "offset 10s"),
    ("offset 15m", "offset 15s"),
    ("for: 1m", "for: 1s"),
    ("for: 2m", "for: 2s"),
    ("for: 5m", "for: 5s"),
    ("for: 10m", "for: 10s"),
    ("journal_age_seconds > 60", "journal_age_seconds > 10"),
    ("lag_seconds) > 3600", "lag_seconds) > 60"),
    ("[10s], 1800)", "[10s], 30)"),
];

/// Sees what these services tell, and which alerts fire.
pub(crate) struct Prometheus {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes these ports twice a second. All alerts named are silent first, while all is well.
    pub(crate) async fn watch(ports: &[u16], alerts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/runcast/rules");
        for entry in std::fs::read_dir(rules).unwrap() {
            let path = entry.unwrap().path();
            let mut text = std::fs::read_to_string(&path).unwrap();
            for (from, to) in HURRY {
                text = text.replace(from, to);
            }
            std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
        }
        let targets = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: ['*.yaml']\n\
             scrape_configs:\n- job_name: runcast\n  static_configs:\n  - targets: [{targets}]\n    labels: {{namespace: here}}\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--query.lookback-delta=2s", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let prometheus = Self { port, _process: Process::start("prometheus", command), _folder: folder };
        let begun = Instant::now();
        while begun.elapsed() < PEACE {
            let firing = prometheus.firing().await.unwrap_or_default();
            let early: Vec<_> = alerts.iter().filter(|alert| firing.contains(**alert)).collect();
            assert!(early.is_empty(), "they fire while all is well: {early:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        prometheus.firing().await.expect("prometheus answers");
        prometheus
    }

    async fn firing(&self) -> Option<BTreeSet<String>> {
        let url = format!("http://127.0.0.1:{}/api/v1/alerts", self.port);
        let (_, _, body) = http_get(&url, &[]).await.ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let alerts = answer["data"]["alerts"].as_array()?.iter().filter(|alert| alert["state"] == "firing");
        Some(alerts.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect())
    }

    /// Waits until all of these have fired; those that did not in time, and tells how long each took.
    pub(crate) async fn until(&self, fault: &str, alerts: &[&str]) -> Vec<String> {
        let begun = Instant::now();
        let mut waited: BTreeSet<&str> = alerts.iter().copied().collect();
        while !waited.is_empty() && begun.elapsed() < PATIENCE {
            let firing = self.firing().await.unwrap_or_default();
            for alert in waited.iter().copied().filter(|alert| firing.contains(*alert)).collect::<Vec<_>>() {
                println!("{alert:30} fires after {:4.1} s: {fault}", begun.elapsed().as_secs_f64());
                waited.remove(alert);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for alert in &waited {
            println!("{alert:30} IS SILENT for {PATIENCE:?}: {fault}");
        }
        waited.into_iter().map(str::to_owned).collect()
    }
}
