//! A service that is given another part's user says so, and what to do, before anybody relies on it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::process::{Command, Stdio};
use std::time::Duration;

use runcast_bus::AclUser;
use runcast_testkit::{Process, Redis, Sidecar, binary, command, eventually, free_port, http_get};

const DEADLINE: Duration = Duration::from_secs(20);

fn users() -> [AclUser; 4] {
    [AclUser::fanout(), AclUser::control(), AclUser::replay(), AclUser::all_runs()].map(AclUser::before_7_2)
}

async fn admit(redis: &Redis) {
    for user in users() {
        let mut words = vec!["ACL".to_owned(), "SETUSER".into(), user.name];
        words.extend(user.rules);
        words.push(">secret".into());
        assert_eq!(command(redis.port(), &words).await.unwrap().text(), "OK");
    }
    command(redis.port(), &["ACL", "SETUSER", "default", "off"]).await.unwrap();
}

/// What a service says of its readiness once it has asked Redis.
async fn readiness(service: &str, user: &str, redis: &Redis) -> (u16, String) {
    let (admin, listen) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(binary(service));
    command
        .env("RUNCAST__REDIS__URL", redis.url())
        .env("RUNCAST__REDIS__USERNAME", user)
        .env("RUNCAST__REDIS__PASSWORD", "secret")
        .env(
            format!("RUNCAST__{}__LISTEN", if service == "runcast-control" { "GRPC" } else { "HTTP" }),
            listen,
        )
        .env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _process = Process::start(service, command);
    let url = format!("http://127.0.0.1:{admin}/readyz");
    eventually(&format!("{service} has asked redis"), DEADLINE, async || {
        let (status, _, body) = http_get(&url, &[]).await.ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        (!body.contains("not asked yet") && body.contains("accepting")).then_some((status, body))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_not_ready_with_a_user_that_cannot_do_its_work() {
    let redis = Redis::start().await;
    admit(&redis).await;
    for part in ["fanout", "control", "replay"] {
        let service = format!("runcast-{part}");
        for user in users().map(|user| user.name) {
            let (status, body) = readiness(&service, &user, &redis).await;
            // The replay service's user may read all that a viewer may be shown.
            if user == service || (part == "fanout" && user == "runcast-replay") {
                assert_eq!(status, 200, "{service} as {user}: {body}");
            } else {
                assert_eq!(status, 503, "{service} as {user}: {body}");
                for word in ["NOPERM", user.as_str(), "redis.username", &format!("runcast acl rules {part}")]
                {
                    assert!(body.contains(word), "{service} as {user}: {body}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_says_so_and_its_agent_goes_on() {
    let redis = Redis::start().await;
    admit(&redis).await;
    let folder = tempfile::tempdir().unwrap();
    for user in ["runcast-fanout", "runcast-control", "runcast-replay"] {
        let sidecar = Sidecar::new(&redis.url(), "r", "v")
            .set("RUNCAST__REDIS__USERNAME", user)
            .set("RUNCAST__REDIS__PASSWORD", "secret");
        let mut process = sidecar.serve(&folder.path().join(user)).await;
        eventually(&format!("as {user} it says what is wrong"), DEADLINE, async || {
            let log = process.log();
            (log.contains("NOPERM") && log.contains("is redis.username the user for this?")).then_some(())
        })
        .await;
        assert!(process.is_running(), "what agents write waits in the journal");
    }
}
