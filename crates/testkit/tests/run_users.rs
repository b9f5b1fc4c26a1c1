//! The users of runs, made by real control planes: they are on every server, come back wherever they got lost, and go
//! when they should.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{Control, Fanout, Redis, Sentinel, Sidecar, command, eventually};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const DEADLINE: Duration = Duration::from_secs(30);
const MANAGE: [(&str, &str); 2] = [("RUNCAST__ACL__MANAGE", "true"), ("RUNCAST__ACL__INTERVAL", "1s")];

async fn managing(url: &str, settings: &[(&str, &str)]) -> Control {
    Control::start_with(url, &[&MANAGE, settings].concat()).await
}

fn runs(control: &Control) -> RunServiceClient<Channel> {
    RunServiceClient::new(Endpoint::from_shared(control.url()).unwrap().connect_lazy())
}

fn new(run: &str) -> proto::CreateRunRequest {
    proto::CreateRunRequest { run_id: run.into(), variation_ids: vec!["v".into()], ..Default::default() }
}

async fn create(control: &Control, run: &str) -> proto::Credential {
    runs(control).create_run(new(run)).await.unwrap().into_inner().credential.expect("a credential")
}

async fn rotate(control: &Control, run: &str) -> proto::Credential {
    let request = proto::RotateCredentialRequest { name: format!("runs/{run}") };
    runs(control).rotate_credential(request).await.unwrap().into_inner().credential.expect("a credential")
}

/// The runs that have a user on a server, with its line in `ACL LIST`.
async fn users(port: u16) -> Option<Vec<(String, String)>> {
    let lines = command(port, &["ACL", "LIST"]).await.ok()?;
    let users = lines.items().iter().filter_map(|line| {
        let line = line.text();
        let run = line.strip_prefix("user runcast-run-")?.split(' ').next()?.to_owned();
        Some((run, line))
    });
    Some(users.collect())
}

async fn until_users(what: &str, port: u16, runs: &[&str]) -> Duration {
    let begun = Instant::now();
    eventually(what, DEADLINE, async || {
        let users = users(port).await?;
        users.iter().map(|(run, _)| run.as_str()).eq(runs.iter().copied()).then_some(())
    })
    .await;
    begun.elapsed()
}

/// Whether Redis lets in who has this password.
async fn lets_in(port: u16, credential: &proto::Credential) -> Option<bool> {
    let login = ["AUTH", credential.username.as_str(), credential.password.as_str()];
    Some(command(port, &login).await.ok()?.text() == "OK")
}

async fn connections(port: u16, credential: &proto::Credential) -> Option<usize> {
    let clients = command(port, &["CLIENT", "LIST"]).await.ok()?.text();
    Some(clients.matches(&format!("user={} ", credential.username)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_back_after_a_restart_a_failover_and_on_a_new_server() {
    let mut sentinel = Sentinel::start().await;
    let control = managing(&sentinel.url(), &[]).await;
    let credential = create(&control, "r").await;
    for node in &sentinel.nodes {
        assert_eq!(lets_in(node.port(), &credential).await, Some(true), "at once, on each server");
    }
    let old = sentinel.primary_index().await.unwrap();
    let replica = (old + 1) % 3;
    sentinel.nodes[replica].restart().await;
    let took = until_users("back after a restart", sentinel.nodes[replica].port(), &["r"]).await;
    println!("back {took:.2?} after a replica that had forgotten its users answered again");

    sentinel.until_replicated().await;
    sentinel.nodes[old].kill9();
    let promoted = sentinel.until_promoted(old).await;
    assert_eq!(
        lets_in(sentinel.nodes[promoted].port(), &credential).await,
        Some(true),
        "it was there before"
    );
    let later = eventually("runs are created again", DEADLINE, async || {
        let request = proto::CreateRunRequest { request_id: "1".into(), ..new("s") };
        let created = runs(&control).create_run(request).await.ok()?.into_inner();
        match created.credential {
            Some(credential) => Some(credential),
            // Redis did not confirm the first time, and may not yet.
            None => {
                let request = proto::RotateCredentialRequest { name: "runs/s".into() };
                runs(&control).rotate_credential(request).await.ok()?.into_inner().credential
            }
        }
    })
    .await;
    sentinel.nodes[old].restart().await;
    let took = until_users("back on the old primary", sentinel.nodes[old].port(), &["r", "s"]).await;
    println!("back {took:.2?} after the old primary answered again");
    for credential in [&credential, &later] {
        assert_eq!(lets_in(sentinel.nodes[old].port(), credential).await, Some(true));
    }

    sentinel.until_replicated().await;
    let primary = sentinel.primary().await.unwrap();
    let primary = format!("127.0.0.1 {primary}");
    let another = Redis::builder().set("replicaof", &primary).start().await;
    let took = until_users("on a new server", another.port(), &["r", "s"]).await;
    println!("there {took:.2?} after a new replica answered; sentinels look for replicas every 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_others_is_put_back_and_what_is_not_ours_stays() {
    let mut redis = Redis::start().await;
    let port = redis.port();
    let replicas = [managing(&redis.url(), &[]).await, managing(&redis.url(), &[]).await];
    let credential = create(&replicas[0], "r").await;
    create(&replicas[1], "s").await;
    let good = users(port).await.unwrap();
    for tampered in [
        &["ACL", "DELUSER", "runcast-run-r"][..],
        &["ACL", "SETUSER", "runcast-run-r", "+@all", "~*"],
        &["ACL", "SETUSER", "runcast-run-s", ">another"],
        &["ACL", "SETUSER", "runcast-run-r", "off"],
        &["ACL", "SETUSER", "runcast-run-stranger", "on", "nopass", "+@all", "~*"],
        &["ACL", "SETUSER", "runcast-run-", "on"],
    ] {
        // Once both know how the server prints them.
        command(port, &["ACL", "SETUSER", "somebody", "on"]).await.unwrap();
        command(port, tampered).await.unwrap();
        eventually(&format!("put back after {tampered:?}"), DEADLINE, async || {
            (users(port).await?.iter().collect::<BTreeSet<_>>() == good.iter().collect()).then_some(())
        })
        .await;
    }
    let somebody = command(port, &["ACL", "GETUSER", "somebody"]).await.unwrap();
    assert!(!somebody.items().is_empty(), "not ours to delete");

    // Without a disk Redis has forgotten what should be, too: the control planes have not.
    redis.restart().await;
    let took = until_users("back although redis lost everything", port, &["r", "s"]).await;
    println!("back {took:.2?} after a restart that lost everything");
    assert_eq!(lets_in(port, &credential).await, Some(true));
}

/// How often a command was called on a server.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.command(&["INFO", "commandstats"]).await.unwrap().text();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_it_should_be_is_left_alone() {
    let redis = Redis::start().await;
    let control = managing(&redis.url(), &[("RUNCAST__ACL__INTERVAL", "100ms")]).await;
    for run in ["r", "s", "t"] {
        create(&control, run).await;
    }
    let looks = async |more| {
        let before = calls(&redis, "acl|users").await;
        let done = async || (calls(&redis, "acl|users").await >= before + more).then_some(());
        eventually("the users are looked at", DEADLINE, done).await;
    };
    // The first looks learn how the server tells of users.
    looks(3).await;
    let set = calls(&redis, "acl|setuser").await;
    looks(30).await;
    assert_eq!(calls(&redis, "acl|setuser").await, set, "nothing was wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating_under_a_living_sidecar_loses_nothing() {
    let redis = Redis::builder().appendonly().start().await;
    rotate_under_a_sidecar(&redis.url(), redis.port()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating_behind_sentinel_loses_nothing_either() {
    let sentinel = Sentinel::start().await;
    let primary = sentinel.primary().await.unwrap();
    rotate_under_a_sidecar(&sentinel.url(), primary).await;
}

async fn rotate_under_a_sidecar(url: &str, port: u16) {
    let control = managing(url, &[("RUNCAST__ACL__OVERLAP", "3s")]).await;
    let fanout = Fanout::start(url).await;
    let first = create(&control, "r").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, &first.password).unwrap();
    let mut sidecar = Sidecar::new(url, "r", "v")
        .set("RUNCAST__REDIS__USERNAME", &first.username)
        .set("RUNCAST__REDIS__PASSWORD_FILE", file.display())
        .pipe();
    let mut agent = sidecar.child().stdin.take().unwrap();
    let mut said = String::new();
    let mut say = |said: &mut String| {
        let words = format!("line {}\n", said.len());
        agent.write_all(words.as_bytes()).unwrap();
        said.push_str(&words);
    };
    eventually("it is connected", DEADLINE, async || (connections(port, &first).await? > 0).then_some(()))
        .await;
    say(&mut said);
    let second = rotate(&control, "r").await;
    for credential in [&first, &second] {
        assert_eq!(lets_in(port, credential).await, Some(true), "both are good for a while");
    }
    std::fs::write(&file, &second.password).unwrap();
    eventually("the first is refused", DEADLINE, async || {
        say(&mut said);
        lets_in(port, &first).await?.eq(&false).then_some(())
    })
    .await;
    eventually("it is connected again", DEADLINE, async || {
        say(&mut said);
        (connections(port, &second).await? > 0).then_some(())
    })
    .await;
    for _ in 0..100 {
        say(&mut said);
    }
    drop(agent);
    let mut viewer = fanout.viewer("r", "");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    let all = async {
        while viewer.history.text("v").len() < said.len() {
            viewer.next().await.unwrap().expect("the stream goes on");
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("all lines");
    viewer.watch_to_end(DEADLINE).await.expect("the end");
    assert_eq!(viewer.history.text("v"), said);
    assert!(viewer.history.gaps.is_empty());
    println!("{} lines, two passwords, none lost", said.lines().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_cuts_connections_and_the_end_of_a_run_removes_its_user() {
    let redis = Redis::start().await;
    let port = redis.port();
    let control = managing(&redis.url(), &[("RUNCAST__ACL__GRACE", "1s")]).await;
    let credential = create(&control, "r").await;
    let sidecar = Sidecar::new(&redis.url(), "r", "v")
        .set("RUNCAST__REDIS__USERNAME", &credential.username)
        .set("RUNCAST__REDIS__PASSWORD", &credential.password);
    let mut process = sidecar.pipe();
    eventually("it is connected", DEADLINE, async || {
        (connections(port, &credential).await? > 0).then_some(())
    })
    .await;
    let begun = Instant::now();
    let revoke = || proto::RevokeCredentialRequest { name: "runs/r".into() };
    runs(&control).revoke_credential(revoke()).await.unwrap();
    println!("revoked in {:.2?}", begun.elapsed());
    assert_eq!(connections(port, &credential).await, Some(0), "cut when the call returns");
    assert_eq!(lets_in(port, &credential).await, Some(false));
    runs(&control).revoke_credential(revoke()).await.unwrap();
    assert!(process.is_running(), "the agent goes on, into the journal");
    process.kill9();

    for (run, delete) in [("ended", false), ("deleted", true)] {
        let credential = create(&control, run).await;
        let name = format!("runs/{run}");
        if delete {
            let request = proto::DeleteRunRequest { name: name.clone(), force: true };
            runs(&control).delete_run(request).await.unwrap();
        } else {
            let request = proto::EndRunRequest { name: name.clone(), reason: String::new() };
            runs(&control).end_run(request).await.unwrap();
        }
        until_users("gone with the run", port, &[]).await;
        assert_eq!(lets_in(port, &credential).await, Some(false));
        assert!(!redis.command(&["HEXISTS", "runcast:credentials", run]).await.unwrap().text().contains('1'));
    }
    let again = create(&control, "deleted").await;
    assert_eq!(lets_in(port, &again).await, Some(true), "a new run of the same name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_leaves_nothing_half_done() {
    let redis = Redis::builder().appendonly().start().await;
    let port = redis.port();
    let other = managing(&redis.url(), &[]).await;
    for round in 0..5u32 {
        let mut killed = managing(&redis.url(), &[]).await;
        let client = runs(&killed);
        let answers = Arc::new(AtomicU32::new(0));
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let (mut client, run) = (client.clone(), format!("r-{round}-{number}"));
                let answers = answers.clone();
                tokio::spawn(async move {
                    let created = client.create_run(new(&run)).await.ok()?.into_inner();
                    answers.fetch_add(1, Ordering::Relaxed);
                    created.credential
                })
            })
            .collect();
        eventually("some are under way", DEADLINE, async || {
            let kept =
                redis.command(&["HLEN", "runcast:credentials"]).await.ok()?.text().parse::<u32>().ok()?;
            (kept > 3 && answers.load(Ordering::Relaxed) >= 3 * round).then_some(())
        })
        .await;
        killed.process().kill9();
        let mut answered = Vec::new();
        for call in calls {
            answered.extend(call.await.unwrap());
        }
        eventually("what should be and what is are the same", DEADLINE, async || {
            let kept = redis.command(&["HKEYS", "runcast:credentials"]).await.ok()?;
            let kept: BTreeSet<String> = kept.items().iter().map(runcast_testkit::Reply::text).collect();
            let there = users(port).await?.into_iter().map(|(run, _)| run);
            (there.chain(["@".to_owned()]).collect::<BTreeSet<_>>() == kept).then_some(())
        })
        .await;
        for credential in &answered {
            assert_eq!(lets_in(port, credential).await, Some(true), "who got an answer is let in");
        }
        println!("round {round}: {} of 20 answered before the kill", answered.len());
        // Those that nobody got the password of can be had all the same.
        for (run, _) in users(port).await.unwrap() {
            let request = proto::RevokeCredentialRequest { name: format!("runs/{run}") };
            runs(&other).revoke_credential(request).await.unwrap();
        }
        assert!(users(port).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_does_not_manage_users_says_so() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    command(redis.port(), &["ACL", "SETUSER", "runcast-run-by-hand", "on"]).await.unwrap();
    assert!(runs(&control).create_run(new("r")).await.unwrap().into_inner().credential.is_none());
    let request = proto::RotateCredentialRequest { name: "runs/r".into() };
    let refused = runs(&control).rotate_credential(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("acl.manage"), "{}", refused.message());
    assert_eq!(users(redis.port()).await.unwrap().len(), 1, "by hand is left alone");
}
