//! Commands to an agent that the sidecar started.

mod support;

use std::fs;
use std::sync::OnceLock;

use runcast_protocol::{State, Step};
use runcast_testkit::{Process, Redis, Sidecar, eventually};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use support::operator::Operator;
use support::{Lanes, RUN, SOON, call};

/// An agent that the sidecar started, in its own Redis.
struct Started {
    redis: Redis,
    operator: Operator,
    lanes: Lanes,
    process: Process,
    /// The agent's process group, once it is known.
    known: OnceLock<i32>,
}

/// An agent outlives a sidecar that is killed, as it should; not its test.
impl Drop for Started {
    fn drop(&mut self) {
        self.process.kill9();
        let group = self.known.get().and_then(|group| Pid::from_raw(*group));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Says `x` again and again, and so do its children; the shell says its own pid first.
const TREE: &str = "
    child() { while :; do sleep 0.01; done; }
    child & child & (child & wait) &
    echo $$; while :; do printf x; sleep 0.01; done";

impl Started {
    async fn new(script: &str) -> Self {
        Self::with(script, |sidecar| sidecar).await
    }

    async fn with(script: &str, set: impl Fn(Sidecar) -> Sidecar) -> Self {
        let redis = Redis::start().await;
        let process = set(Sidecar::new(&redis.url(), RUN, "a")).exec(&["bash", "-c", script]);
        let (operator, lanes) = (Operator::of(&redis.url()), Lanes::of(&redis.url()));
        Self { redis, operator, lanes, process, known: OnceLock::new() }
    }

    /// The agent's process group, once it has said its pid.
    async fn group(&self) -> i32 {
        let first_line = async || self.lanes.text().await?.split_once('\n')?.0.parse().ok();
        let group = eventually("the agent says its pid", SOON, first_line).await;
        *self.known.get_or_init(|| group)
    }

    /// Waits until the agent has said more than it has now.
    async fn goes_on(&self) {
        let said = self.lanes.text().await.expect("redis answers").len();
        eventually("it goes on", SOON, async || (self.lanes.text().await?.len() > said).then_some(())).await;
    }

    async fn code(&mut self) -> Option<i32> {
        self.process.wait(SOON).await.code()
    }
}

/// The states of all processes of a group, as the kernel has them.
fn states(group: i32) -> String {
    let stats = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.nth(1)? == group.to_string()).then_some(state)
    });
    stats.filter(|state| *state != 'Z').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_stands_still_with_all_that_it_started_and_goes_on_when_told() {
    let agent = Started::new(TREE).await;
    let group = agent.group().await;
    agent.operator.issue("c1", json!({"action": "pause"})).await;
    let paused = agent.operator.ended("c1").await;
    assert_eq!(paused.step, Step::Applied, "{paused:?}");
    let states_now = states(group);
    assert!(states_now.chars().all(|state| state == 'T'), "{states_now:?}");
    assert!(states_now.len() >= 4);
    assert_eq!(paused.result, Some(json!({"processes": states_now.len()})));
    assert_eq!(agent.operator.steps("c1").await, [Step::Delivered, Step::Applied]);

    // Once more: it is so already.
    agent.operator.issue("c2", json!({"action": "pause"})).await;
    assert_eq!(agent.operator.ended("c2").await.result, paused.result);

    agent.operator.issue("c3", json!({"action": "resume"})).await;
    let resumed = agent.operator.ended("c3").await;
    assert_eq!(resumed.step, Step::Applied, "{resumed:?}");
    assert!(!states(group).contains('T'));
    agent.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_applied_when_the_agent_is_gone_with_all_that_it_started() {
    let mut agent = Started::new(&format!("trap 'exit 3' TERM; {TREE}")).await;
    let group = agent.group().await;
    agent.operator.issue("c1", json!({"action": "stop", "grace_ms": 20000})).await;
    let stopped = agent.operator.ended("c1").await;
    assert_eq!((stopped.step, stopped.result), (Step::Applied, Some(json!({"exit_code": 3}))));
    assert_eq!(states(group), "");
    assert_eq!(agent.code().await, Some(3));
    assert_eq!(agent.operator.steps("c1").await, [Step::Delivered, Step::Accepted, Step::Applied]);
    let last = agent.lanes.statuses().await.pop().expect("a status");
    assert_eq!((last.state, last.exit_code), (State::Cancelled, Some(3)));
    assert_eq!(last.reason.as_deref(), Some("stopped by anna (command c1)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_that_does_not_listen_is_killed_after_the_grace() {
    let mut agent = Started::new(&format!("trap '' TERM; {TREE}")).await;
    let group = agent.group().await;
    agent.operator.issue("c1", json!({"action": "pause"})).await;
    agent.operator.ended("c1").await;
    agent.operator.issue("c2", json!({"action": "stop", "grace_ms": 60000})).await;
    agent.operator.said("c2", Step::Accepted).await;
    // Nothing else is done to an agent that is to end; another stop may only shorten its time.
    agent.operator.issue("c3", json!({"action": "pause"})).await;
    let refused = agent.operator.ended("c3").await;
    assert_eq!(
        (refused.step, refused.reason.as_deref()),
        (Step::Rejected, Some("the agent is being stopped"))
    );
    agent.operator.issue("c4", json!({"action": "stop", "grace_ms": 100})).await;
    for command in ["c2", "c4"] {
        let stopped = agent.operator.ended(command).await;
        assert_eq!((stopped.step, stopped.result), (Step::Applied, Some(json!({"signal": 9}))));
    }
    assert_eq!(states(group), "");
    assert_eq!(agent.code().await, Some(137));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_agent_leaves_behind_is_killed_after_the_grace() {
    let script = "trap 'exit 0' TERM; (trap '' TERM; while :; do sleep 0.01; done) & echo $$; wait";
    let mut agent = Started::new(script).await;
    let group = agent.group().await;
    agent.operator.issue("c1", json!({"action": "stop", "grace_ms": 300})).await;
    let stopped = agent.operator.ended("c1").await;
    assert_eq!((stopped.step, stopped.result), (Step::Applied, Some(json!({"exit_code": 0}))));
    assert_eq!(states(group), "");
    assert_eq!(agent.code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_to_the_sidecar_ends_a_paused_agent_by_itself() {
    let mut agent =
        Started::new("trap 'printf bye; exit 0' TERM; echo $$; while :; do sleep 0.01; done").await;
    agent.group().await;
    agent.operator.issue("c1", json!({"action": "pause"})).await;
    agent.operator.ended("c1").await;
    agent.process.terminate();
    assert_eq!(agent.code().await, Some(0));
    assert!(agent.lanes.text().await.expect("redis answers").ends_with("bye"));
    assert_eq!(agent.lanes.states().await, [State::Running, State::Cancelled]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_to_the_agents_input_where_that_is_allowed() {
    let script = "read -r one; read -r two; printf '%s|%s' \"$one\" \"$two\"; exec cat";
    let mut agent = Started::with(script, |sidecar| sidecar.set("RUNCAST__EXEC__INPUT", true)).await;
    agent.operator.issue("c1", json!({"action": "input", "text": "Hello "})).await;
    assert_eq!(agent.operator.ended("c1").await.result, Some(json!({"bytes": 6})));
    agent.operator.issue("c2", json!({"action": "input", "text": "you\nänd you\n"})).await;
    agent.operator.ended("c2").await;
    agent.lanes.say("Hello you|änd you").await;
    agent.operator.issue("c3", json!({"action": "stop", "grace_ms": 5000})).await;
    assert_eq!(agent.operator.ended("c3").await.result, Some(json!({"signal": 15})));
    assert_eq!(agent.code().await, Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_rejected_with_a_reason() {
    let agent = Started::new("echo $$; sleep 1000").await;
    for (id, action, why) in [
        ("c1", json!({"action": "input", "text": "x"}), "exec.input"),
        ("c2", json!({"action": "config", "patch": {"a": 1}}), "exec.api"),
        ("c3", json!({"action": "custom", "name": "dance"}), "exec.api"),
        ("c4", json!({"action": "levitate"}), "no action \"levitate\""),
        ("c5", json!({"action": "stop", "grace_ms": "soon"}), "cannot read the command"),
    ] {
        agent.operator.issue(id, action).await;
        let refused = agent.operator.ended(id).await;
        let reason = refused.reason.expect("a reason");
        assert!(refused.step == Step::Rejected && reason.contains(why), "{id}: {reason}");
        assert_eq!(agent.operator.steps(id).await, [Step::Rejected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_read_twice_is_carried_out_once() {
    let script = "echo $$; while read -r line; do printf '<%s>' \"$line\"; done";
    let agent = Started::with(script, |sidecar| sidecar.set("RUNCAST__EXEC__INPUT", true)).await;
    for _ in 0..3 {
        agent.operator.issue("c1", json!({"action": "input", "text": "once\n"})).await;
    }
    agent.operator.issue("c2", json!({"action": "input", "text": "then\n"})).await;
    agent.operator.ended("c2").await;
    let pid = agent.group().await;
    agent.lanes.say(&format!("{pid}\n<once><then>")).await;
    assert_eq!(agent.operator.steps("c1").await, [Step::Delivered, Step::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ended_or_is_long_past_never_reaches_the_agent() {
    let redis = Redis::start().await;
    let operator = Operator::of(&redis.url());
    for id in ["called-back", "expired"] {
        operator.issue(id, json!({"action": "input", "text": format!("{id}\n")})).await;
    }
    assert!(operator.end(Step::Cancelled, "called-back").await);
    assert!(operator.end(Step::Expired, "expired").await);
    operator.issue_to(&["a"], "past", json!({"action": "input", "text": "past\n"}), -6).await;
    operator.issue_to(&["b"], "for-another", json!({"action": "input", "text": "another\n"}), 30).await;
    operator.issue("open", json!({"action": "input", "text": "open\n"})).await;

    let sidecar = Sidecar::new(&redis.url(), RUN, "a").set("RUNCAST__EXEC__INPUT", true);
    let _process = sidecar.exec(&["cat"]);
    operator.ended("open").await;
    Lanes::of(&redis.url()).say("open\n").await;
    for id in ["called-back", "expired", "for-another"] {
        assert_eq!(operator.steps(id).await, [], "{id}");
    }
    let past = operator.ended("past").await;
    assert_eq!((past.step, past.reason.as_deref()), (Step::Rejected, Some("its deadline had passed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_killed_between_delivered_and_applied_is_followed_by_one_that_finishes_it() {
    let mut agent = Started::new("trap '' TERM; echo $$; while :; do sleep 0.01; done").await;
    agent.group().await;
    agent.operator.issue("c1", json!({"action": "stop", "grace_ms": 500})).await;
    agent.operator.said("c1", Step::Accepted).await;
    agent.process.kill9();
    agent.process = Sidecar::new(&agent.redis.url(), RUN, "a").exec(&["sleep", "1000"]);
    let stopped = agent.operator.ended("c1").await;
    assert_eq!((stopped.step, stopped.result), (Step::Applied, Some(json!({"signal": 15}))));
    assert_eq!(agent.code().await, Some(143));
    assert_eq!(agent.operator.steps("c1").await, [Step::Delivered, Step::Accepted, Step::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_api_an_agent_that_was_started_asks_for_what_is_no_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let agent = Started::with("echo $$; sleep 1000", |sidecar| {
        let sidecar = sidecar.set("RUNCAST__EXEC__API", true).set("RUNCAST__API__LISTEN", "");
        sidecar.set("RUNCAST__API__SOCKET", socket.display())
    })
    .await;
    let call = async |method, path, body| call(&socket, method, path, "application/json", body).await;
    agent.group().await;
    agent.operator.issue("c1", json!({"action": "config", "patch": {"a": 1}})).await;
    agent.operator.issue("c2", json!({"action": "pause"})).await;
    agent.operator.ended("c2").await;
    agent.operator.said("c1", Step::Delivered).await;
    let (_, told) = call("GET", "/v1/commands?wait=10s", "").await;
    let ids: Vec<_> =
        told["events"].as_array().expect("events").iter().map(|event| &event["command"]).collect();
    assert_eq!(ids, ["c1"], "the signals are the sidecar's");
    assert_eq!(call("GET", "/v1/config", "").await.1, json!({"version": 1, "config": {"a": 1}}));
    assert_eq!(call("POST", "/v1/commands/c1/ack", "{\"step\":\"applied\"}").await.0, 200);
    assert_eq!(agent.operator.ended("c1").await.step, Step::Applied);
    assert_eq!(call("POST", "/v1/finish", "").await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_rejects_all_commands() {
    let redis = Redis::start().await;
    let operator = Operator::of(&redis.url());
    let _process = Sidecar::new(&redis.url(), RUN, "a").pipe();
    operator.issue("c1", json!({"action": "pause"})).await;
    let refused = operator.ended("c1").await;
    assert_eq!(refused.step, Step::Rejected);
    assert!(refused.reason.expect("a reason").contains("`pipe`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_the_middle_of_which_redis_restarts_is_finished() {
    let redis = Redis::builder().set("appendonly", "yes").set("appendfsync", "always").start().await;
    let process = Sidecar::new(&redis.url(), RUN, "a").exec(&[
        "bash",
        "-c",
        "trap '' TERM; echo $$; while :; do sleep 0.01; done",
    ]);
    let (operator, lanes) = (Operator::of(&redis.url()), Lanes::of(&redis.url()));
    let mut agent = Started { redis, operator, lanes, process, known: OnceLock::new() };
    agent.group().await;
    agent.operator.issue("c1", json!({"action": "stop", "grace_ms": 2000})).await;
    agent.operator.said("c1", Step::Accepted).await;
    agent.redis.kill9();
    agent.redis.restart().await;
    let stopped = agent.operator.ended("c1").await;
    assert_eq!((stopped.step, stopped.result), (Step::Applied, Some(json!({"signal": 9}))));
    assert_eq!(agent.code().await, Some(137));
    assert_eq!(agent.operator.steps("c1").await, [Step::Delivered, Step::Accepted, Step::Applied]);
}
