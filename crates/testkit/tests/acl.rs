//! Redis users: with them everything works, and as an agent's user nothing goes beyond its run. From outside, with
//! `redis-cli`; on one server, on Sentinel after a failover, and on all nodes of a cluster.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

use std::process::Command;
use std::time::Duration;

use runcast_bus::AclUser;
use runcast_protocol::RunId;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{Cluster, Control, Fanout, Redis, Replay, Sentinel, Sidecar, binary, command};

const DEADLINE: Duration = Duration::from_secs(60);
const RUN: &str = "run-1";
const PASSWORD: &str = "secret";

fn agent() -> AclUser {
    AclUser::run(&RunId::new(RUN).unwrap())
}

fn control() -> AclUser {
    AclUser::control().managing_users()
}

/// Has the services' users on these servers, with one password for all. That of the agents comes from the control plane.
async fn admit(ports: &[u16]) {
    for user in [AclUser::fanout(), control(), AclUser::replay()] {
        for port in ports {
            let set = async |user: &AclUser| {
                let mut arguments = vec!["ACL".to_owned(), "SETUSER".into(), user.name.clone()];
                arguments.extend(user.rules.iter().cloned());
                arguments.push(format!(">{PASSWORD}"));
                command(*port, &arguments).await.unwrap().text()
            };
            let mut answer = set(&user).await;
            if answer.contains("+waitaof") {
                answer = set(&user.clone().before_7_2()).await;
            }
            assert_eq!(answer, "OK", "{}", user.name);
        }
    }
}

fn settings(user: &AclUser) -> [(&str, &str); 2] {
    [("RUNCAST__REDIS__USERNAME", user.name.as_str()), ("RUNCAST__REDIS__PASSWORD", PASSWORD)]
}

/// Everything at work under its own user: agents, letters' lanes, viewers, leases, the end of a run, history. Returns
/// the password of the agents' user, which outlives the run for a while.
async fn main_job(url: &str, ports: &[u16]) -> String {
    for port in ports {
        command(*port, &["ACL", "LOG", "RESET"]).await.unwrap();
    }
    let fanout = Fanout::start_with(url, &settings(&AclUser::fanout())).await;
    let control_user = control();
    let mut control_settings = settings(&control_user).to_vec();
    control_settings.push(("RUNCAST__ACL__MANAGE", "true"));
    let control = Control::start_with(url, &control_settings).await;
    let archive = tempfile::tempdir().unwrap();
    let archive_url = format!("file://{}", archive.path().display());
    let replay_user = AclUser::replay();
    let mut replay_settings = settings(&replay_user).to_vec();
    replay_settings.push(("RUNCAST__ARCHIVE__URL", &archive_url));
    let replay = Replay::start_with(url, &replay_settings).await;
    let credential = steer(&control).await;
    assert_eq!(credential.username, agent().name);
    let file = archive.path().join("password");
    std::fs::write(&file, &credential.password).unwrap();
    let sidecar = Sidecar::new(url, RUN, "relay")
        .set("RUNCAST__REDIS__USERNAME", &credential.username)
        .set("RUNCAST__REDIS__PASSWORD_FILE", file.display());
    let program = binary("sample-agent");
    let arguments = ["--text", "relay", "--tokens-per-second", "1000", "--think", "100ms"];
    let _agent = sidecar.exec(&[&[program.to_str().unwrap()][..], &arguments].concat());
    let mut viewer = fanout.viewer(RUN, "");
    viewer.watch_to_end(DEADLINE).await.unwrap();
    assert!(!viewer.history.text("relay").is_empty() && viewer.history.gaps.is_empty());
    runcast_testkit::eventually("the run is in the archive", DEADLINE, async || {
        let path = format!("/v1/runs/{RUN}");
        let (status, _, body) = runcast_testkit::http_get(&replay.url(&path), &[]).await.ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        (status == 200 && body.contains("succeeded")).then_some(())
    })
    .await;
    for port in ports {
        let log = command(*port, &["ACL", "LOG"]).await.unwrap();
        assert!(log.items().is_empty(), "refused on {port}: {}", log.text());
        // Nobody came in as somebody else.
        let clients = command(*port, &["CLIENT", "LIST"]).await.unwrap().text();
        let strangers =
            clients.lines().filter(|line| line.contains("user=default") && line.contains("resp=3"));
        assert_eq!(strangers.count(), 0, "{clients}");
    }
    credential.password
}

/// Creates the run, and has its agent stand still and go on as soon as it is there.
async fn steer(control: &Control) -> proto::Credential {
    let channel = tonic::transport::Endpoint::from_shared(control.url()).unwrap().connect_lazy();
    let mut runs = RunServiceClient::new(channel.clone());
    let variation_ids = vec!["relay".to_owned()];
    let create = proto::CreateRunRequest { run_id: RUN.into(), variation_ids, ..Default::default() };
    let created = runs.create_run(create).await.unwrap().into_inner();
    let actions = [Action::Pause(proto::PauseAction {}), Action::Resume(proto::ResumeAction {})];
    for action in actions {
        let order = proto::SendCommandRequest {
            parent: format!("runs/{RUN}"),
            command: Some(proto::Command { action: Some(action), ..Default::default() }),
            ..Default::default()
        };
        CommandServiceClient::new(channel.clone()).send_command(order).await.unwrap();
    }
    created.credential.expect("a credential")
}

/// What an agent's user tries, and whether it may.
const MATRIX: [(&str, &[&str], bool); 25] = [
    ("own output: append", &["XADD", "run:{run-1}:output:x", "*", "m", "1"], true),
    ("own status: append", &["XADD", "run:{run-1}:status", "*", "m", "1"], true),
    ("own letters: append", &["XADD", "run:{run-1}:letters", "*", "m", "1"], true),
    ("own control: read", &["XRANGE", "run:{run-1}:control", "-", "+"], true),
    ("own lease: renew", &["SET", "run:{run-1}:lease:x", "1", "PX", "1000"], true),
    ("own control: append", &["XADD", "run:{run-1}:control", "*", "m", "1"], false),
    ("own control: publish", &["PUBLISH", "run:{run-1}:control", "1"], false),
    (
        "own control: script",
        &["EVAL", "return redis.call('XADD', KEYS[1], '*', 'm', '1')", "1", "run:{run-1}:control"],
        false,
    ),
    (
        "own control: undeclared key",
        &[
            "EVAL",
            "return redis.call('XADD', 'run:{run-1}:control', '*', 'm', '1')",
            "1",
            "run:{run-1}:status",
        ],
        false,
    ),
    ("own control: delete", &["DEL", "run:{run-1}:control"], false),
    ("own control: expire", &["EXPIRE", "run:{run-1}:control", "0"], false),
    ("own lanes: delete", &["DEL", "run:{run-1}:lanes"], false),
    ("own dead letters: read", &["XRANGE", "run:{run-1}:dead", "-", "+"], false),
    ("own summary: read", &["HGETALL", "run:{run-1}:summary"], false),
    ("other run: append", &["XADD", "run:{run-2}:output:x", "*", "m", "1"], false),
    ("other run: read", &["XRANGE", "run:{run-2}:output:x", "-", "+"], false),
    ("other run: publish", &["PUBLISH", "run:{run-2}:status", "1"], false),
    ("other run: listen", &["SUBSCRIBE", "run:{run-2}:status"], false),
    (
        "other run: script",
        &[
            "EVAL",
            "return redis.call('XADD', 'run:{run-2}:status', '*', 'm', '1')",
            "1",
            "run:{run-1}:status",
        ],
        false,
    ),
    ("all: listen", &["PSUBSCRIBE", "*"], false),
    ("*: listen", &["SUBSCRIBE", "*"], false),
    ("keys", &["KEYS", "*"], false),
    ("scan", &["SCAN", "0"], false),
    ("config", &["CONFIG", "GET", "*"], false),
    ("flushall", &["FLUSHALL"], false),
];

fn cli(port: u16, password: &str, arguments: &[&str]) -> String {
    let user = agent().name;
    let port = port.to_string();
    let mut cli = Command::new("redis-cli");
    cli.args(["-h", "127.0.0.1", "-p", &port, "--user", &user, "--pass", password, "--no-auth-warning"]);
    let output = cli.args(arguments).output().expect("redis-cli");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).trim().replace('\n', " ")
}

/// Prints the matrix as seen on a server. A replica sends who writes elsewhere, and a cluster's node who asks for
/// the keys of another: allowed, as far as permissions go.
fn matrix(what: &str, port: u16, password: &str) {
    println!("\n| {what} | agent's user: action | expected | seen |\n|---|---|---|---|");
    for (action, arguments, allowed) in MATRIX {
        let seen = cli(port, password, arguments);
        let refused = seen.contains("NOPERM")
            || seen.contains("ACL failure")
            || seen.contains("user executing the script can't");
        let elsewhere = seen.contains("MOVED");
        let expected = if allowed { "allowed" } else { "refused" };
        println!("| {port} | {action} | {expected} | {} |", seen.chars().take(60).collect::<String>());
        // A script is judged where it runs.
        assert!(
            refused != allowed || (elsewhere && arguments[0] == "EVAL"),
            "{what} {port}: {action}: {seen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server() {
    let redis = Redis::start().await;
    admit(&[redis.port()]).await;
    let password = main_job(&redis.url(), &[redis.port()]).await;
    matrix("standalone", redis.port(), &password);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sentinel_after_a_failover() {
    let mut sentinel = Sentinel::start().await;
    let ports: Vec<u16> = sentinel.nodes.iter().map(Redis::port).collect();
    admit(&ports).await;
    let old = sentinel.primary_index().await.unwrap();
    sentinel.nodes[old].kill9();
    sentinel.until_promoted(old).await;
    let left: Vec<u16> = (0..3).filter(|index| *index != old).map(|index| ports[index]).collect();
    let password = main_job(&sentinel.url(), &left).await;
    let primary = sentinel.primary_index().await.unwrap();
    assert_ne!(primary, old);
    matrix("sentinel, after a failover", ports[primary], &password);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_all_nodes_of_a_cluster() {
    let cluster = Cluster::start().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    admit(&ports).await;
    let password = main_job(&cluster.url(), &ports).await;
    for port in ports {
        matrix("cluster", port, &password);
    }
}
