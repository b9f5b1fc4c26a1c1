//! Who makes the run, and its user where Redis has users: a real control plane.

use std::process::Command;

use runcast_testkit::{Control, binary};
use tempfile::TempDir;

use crate::agents::RUN;
use crate::topology::Topology;

/// The control plane at work; none where anybody may come to Redis.
pub(crate) struct Owner(Option<(Control, TempDir, String)>);

impl Owner {
    /// Starts it, and has it make the run with so many variations.
    pub(crate) async fn start(topology: &Topology, agents: usize) -> Self {
        let Topology::Chart(chart) = topology else { return Self(None) };
        let mut user = chart.settings("runcast-control");
        user.push(("RUNCAST__ACL__MANAGE".into(), "true".into()));
        let settings: Vec<_> = user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let control = Control::start_with(&topology.url(), &settings).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let made = Command::new(binary("runcast"))
            .args(["--control", &control.url(), "acl", "create", RUN])
            .args((0..agents).map(|agent| agent.to_string()))
            .arg("--password-file")
            .arg(&file)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(Some((control, folder, chart.ca_file())))
    }

    /// What a sidecar of the run needs to come to Redis as the run's user; nothing where there are no users.
    pub(crate) fn user_of_run(&self) -> Vec<(String, String)> {
        let Some((_, folder, ca_file)) = &self.0 else { return Vec::new() };
        let file = folder.path().join("password").display().to_string();
        [("CA_FILE", ca_file.clone()), ("USERNAME", format!("runcast-run-{RUN}")), ("PASSWORD_FILE", file)]
            .map(|(name, value)| (format!("RUNCAST__REDIS__{name}"), value))
            .into()
    }

    /// What Redis refused to it, as it says itself.
    pub(crate) fn refusals(mut self) -> Vec<String> {
        let log = self.0.as_mut().map(|(control, ..)| control.process().log()).unwrap_or_default();
        let refused = log.lines().filter(|line| line.contains("NOPERM"));
        refused.map(|line| format!("refused by redis: {line}")).collect()
    }
}
