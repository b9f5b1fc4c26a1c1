//! What `runcast dev` says.

use std::io::Write;
use std::path::Path;

use anstyle::Style;
use runcast_protocol::RunId;

use crate::dev::stack::Ports;
use crate::programs;

/// Says a line. Whether anybody reads it makes no difference to what runs.
pub(crate) fn say(line: &str) {
    let mut stdout = anstream::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Where everything is, and how to attach an agent.
pub(crate) fn services(run: &RunId, redis: &str, ports: &Ports, folder: &Path) {
    say("\nRuncast is up. Once an agent speaks, this page shows it:\n");
    places(run, redis, ports, folder);
    attach(run, redis, ports);
}

/// Where to watch the agents.
pub(crate) fn demo(run: &RunId, redis: &str, ports: &Ports, folder: &Path) {
    say("\nThree agents are writing, side by side. Open this page:\n");
    places(run, redis, ports, folder);
}

/// How to attach an agent and to follow it in a terminal, to be pasted as it is.
pub(crate) fn attach(run: &RunId, redis: &str, ports: &Ports) {
    let (sidecar, runcast) = (programs::as_typed("runcast-sidecar"), programs::as_typed("runcast"));
    let http = ports.http;
    say("Attach an agent, e.g. `sh`; what it writes appears:");
    say(&format!("  RUNCAST__REDIS__URL={redis} {sidecar} --run {run} --variation var-1 \\"));
    say("    exec -- sh -c 'for n in 1 2 3 4 5; do echo \"Hello $n\"; sleep 1; done'");
    say("Follow it in a terminal:");
    say(&format!("  {runcast} tail {run} --fanout http://127.0.0.1:{http}"));
    say("Once it is over, see it again, four times as fast:");
    say(&format!("  {runcast} replay {run} --speed 4 --replay http://127.0.0.1:{}", ports.replay));
    say("Have it stand still, and go on:");
    say(&format!("  {runcast} send {run} pause --control http://127.0.0.1:{}\n", ports.control));
    say("Ctrl-C stops everything.");
}

/// The agents are done.
pub(crate) fn done(run: &RunId, keyboard: bool) {
    say(&format!("\nThe agents of {run} are done; the page stays as it is."));
    say(if keyboard { "Press Enter for another run, Ctrl-C to stop." } else { "Ctrl-C stops everything." });
}

fn places(run: &RunId, redis: &str, ports: &Ports, folder: &Path) {
    let bold = Style::new().bold();
    let base = format!("http://127.0.0.1:{}", ports.http);
    say(&format!("  page    {bold}{base}/runs/{run}{bold:#}\n"));
    say(&format!("  events  {base}/v1/runs/{run}/events"));
    say(&format!("  control http://127.0.0.1:{} (gRPC)", ports.control));
    say(&format!("  replay  http://127.0.0.1:{}", ports.replay));
    say(&format!("  admin   http://127.0.0.1:{}/readyz", ports.admin));
    say(&format!("  redis   {redis}"));
    say(&format!("  logs    {}\n", folder.display()));
}
