//! Logs as talkative as they get hold no secret: neither one that a service was configured with, nor one that it made,
//! nor one that a viewer or an agent showed it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runcast_bus::AclUser;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{
    Issuer, Redis, Viewer, binary, command, eventually, free_port, http_get, http_post_text,
};
use tonic::Request;

const SOON: Duration = Duration::from_secs(60);
const PASSWORD: &str = "the-services-password-0123456789";
const TOKEN: &str = r#"{"exp":4000000000,"runs":["*"],"operations":["view","create","revoke","control"]}"#;
/// As the services sign with; see [`Issuer`].
const SIGNS: &str = "0123456789abcdef0123456789abcdef";
const FORGED: &str = "Zm9yZ2VkLXNpZ25hdHVyZS0wMTIzNDU2Nzg5LWFiY2RlZg";
const IN_AN_ADDRESS: &str = "the-password-in-an-address";
const AGENTS: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// A program whose whole log is kept.
struct Talkative {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Talkative {
    async fn start(folder: &Path, program: &str, settings: &[(&str, &str)]) -> Self {
        let (port, admin) = (free_port(), free_port());
        let log = folder.join(format!("{program}.log"));
        let mut command = Command::new(binary(program));
        let listen = if program == "runcast-control" { "GRPC" } else { "HTTP" };
        command
            .env(format!("RUNCAST__{listen}__LISTEN"), format!("127.0.0.1:{port}"))
            .env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{admin}"));
        let child = spawn(command, &log, settings);
        let ready = format!("http://127.0.0.1:{admin}/readyz");
        eventually(&format!("{program} is ready"), SOON, async || {
            http_get(&ready, &[]).await.ok().filter(|(status, _, _)| *status == 200).map(drop)
        })
        .await;
        Self { child, log, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command, log: &Path, settings: &[(&str, &str)]) -> Child {
    command
        .env("RUNCAST__TELEMETRY__LOG", "trace")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    runcast_runtime::child::tie_std_to_parent(&mut command);
    command.stderr(File::create(log).unwrap()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_holds_a_secret() {
    let redis = Redis::start().await;
    for user in
        [AclUser::fanout(), AclUser::control().managing_users(), AclUser::replay()].map(AclUser::before_7_2)
    {
        let mut words = vec!["ACL".to_owned(), "SETUSER".into(), user.name];
        words.extend(user.rules);
        words.push(format!(">{PASSWORD}"));
        assert_eq!(command(redis.port(), &words).await.unwrap().text(), "OK");
    }
    let folder = tempfile::tempdir().unwrap();
    let (issuer, url) = (Issuer::new(), redis.url());
    let settings = |user: &'static str| {
        let redis = [
            ("RUNCAST__REDIS__URL", url.as_str()),
            ("RUNCAST__REDIS__USERNAME", user),
            ("RUNCAST__REDIS__PASSWORD", PASSWORD),
        ];
        [&redis[..], &issuer.settings(), &[("RUNCAST__AUTH__COOKIE", "session")]].concat()
    };
    let fanout = Talkative::start(folder.path(), "runcast-fanout", &settings("runcast-fanout")).await;
    let replay = Talkative::start(folder.path(), "runcast-replay", &settings("runcast-replay")).await;
    let managing = [settings("runcast-control"), vec![("RUNCAST__ACL__MANAGE", "true")]].concat();
    let control = Talkative::start(folder.path(), "runcast-control", &managing).await;

    // What the control plane makes, the sidecar is given.
    let token = issuer.token(TOKEN);
    let channel = tonic::transport::Endpoint::from_shared(control.url("")).unwrap().connect_lazy();
    let mut create = Request::new(proto::CreateRunRequest {
        run_id: "r".into(),
        variation_ids: vec!["v".into()],
        ..Default::default()
    });
    create.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let created = RunServiceClient::new(channel).create_run(create).await.unwrap().into_inner();
    let credential = created.credential.unwrap();

    // A viewer shows its token in a header, in a cookie, and for a ticket.
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let (status, _, answer) = http_post_text(&fanout.url("/v1/tickets"), &headers, "").await.unwrap();
    assert_eq!(status, 201);
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let ticket = answer["ticket"].as_str().unwrap().to_owned();
    let mut viewer = Viewer::new(fanout.port, "r", &format!("channels=output&ticket={ticket}"));
    assert_eq!(viewer.connect().await.unwrap(), 200);
    let cookie = format!("session={token}");
    // Somebody's token under another signature is refused, as is a ticket that was used.
    let (claims, _) = token.rsplit_once('.').unwrap();
    let forged = format!("Bearer {claims}.{FORGED}");
    for service in [&fanout, &replay] {
        for (header, status) in
            [(headers[0], 200), (("cookie", &cookie), 200), (("authorization", &forged), 401)]
        {
            eventually("the service knows the run", SOON, async || {
                let seen = http_get(&service.url("/v1/runs/r"), &[header]).await.unwrap().0;
                (seen == status).then_some(())
            })
            .await;
        }
    }
    let again = fanout.url(&format!("/v1/runs/r/events?ticket={ticket}"));
    assert_eq!(http_get(&again, &[]).await.unwrap().0, 401);

    let log = folder.path().join("runcast-sidecar.log");
    let mut sidecar = Command::new(binary("runcast-sidecar"));
    let said = folder.path().join("said");
    std::fs::write(&said, format!("begin {AGENTS} end\n")).unwrap();
    sidecar.args(["--run", "r", "--variation", "v", "exec", "--", "cat"]).arg(&said);
    let journal = folder.path().join("journal").display().to_string();
    let settings = [
        ("RUNCAST__REDIS__URL", url.as_str()),
        ("RUNCAST__REDIS__USERNAME", &credential.username),
        ("RUNCAST__REDIS__PASSWORD", &credential.password),
        ("RUNCAST__JOURNAL__FOLDER", &journal),
    ];
    let status = spawn(sidecar, &log, &settings).wait().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
    viewer.watch_to_end(SOON).await.unwrap();

    // Who puts a password where it does not belong, or cannot be connected, is told so without it.
    let address = format!("redis://runcast-fanout:{IN_AN_ADDRESS}@127.0.0.1:{}", redis.port());
    let mut wrong = Vec::new();
    for (number, address) in
        [address.as_str(), &format!("http://x:{IN_AN_ADDRESS}@127.0.0.1")].iter().enumerate()
    {
        let log = folder.path().join(format!("wrong-{number}.log"));
        let settings = [
            ("RUNCAST__REDIS__URL", *address),
            ("RUNCAST__HTTP__LISTEN", "127.0.0.1:0"),
            ("RUNCAST__ADMIN__LISTEN", "127.0.0.1:0"),
        ];
        let mut child = spawn(Command::new(binary("runcast-fanout")), &log, &settings);
        eventually("it says what is wrong", SOON, async || {
            let text = std::fs::read_to_string(&log).unwrap();
            (text.contains("redis.url") || text.contains("WRONGPASS") || text.contains("rejects"))
                .then_some(())
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        wrong.push(log);
    }

    // Of a token, its signature is what nobody else has.
    let signature = token.rsplit('.').next().unwrap();
    let secrets = [PASSWORD, SIGNS, signature, FORGED, IN_AN_ADDRESS, &ticket, &credential.password, AGENTS];
    for log in [&fanout.log, &replay.log, &control.log, &log] {
        let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
        assert!(text.contains("DEBUG"), "{} is as talkative as it gets", log.display());
        for secret in &secrets {
            told(log, &text, secret);
        }
    }
    for log in &wrong {
        told(log, &std::fs::read_to_string(log).unwrap(), IN_AN_ADDRESS);
    }
}

fn told(log: &Path, text: &str, secret: &str) {
    let lines: Vec<_> = text.lines().filter(|line| line.contains(secret)).take(3).collect();
    assert!(lines.is_empty(), "{} holds {secret:?}: {lines:#?}", log.display());
}
