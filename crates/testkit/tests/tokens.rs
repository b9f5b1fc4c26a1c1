//! Tokens across services, each of them under its own Redis user: revoked by the control plane, heard by all.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_bus::AclUser;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::revoke_token_request::Expiration;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_protocol::grpc::control::token_service_client::TokenServiceClient;
use runcast_testkit::{
    Cluster, Control, Fanout, Issuer, Redis, Replay, command, eventually, http_get, http_post_text,
};
use tonic::{Code, Request};

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "secret";
const VIEWER: &str = r#"{"exp":4000000000,"jti":"t-1","runs":["r"],"operations":["view"]}"#;
const OPERATOR: &str = r#"{"exp":4000000000,"runs":["*"],"operations":["create","revoke"]}"#;

/// Has the users on these servers.
async fn admit(ports: &[u16]) {
    for user in [AclUser::fanout(), AclUser::control(), AclUser::replay()] {
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

fn credentials(user: &AclUser) -> [(&str, &str); 2] {
    [("RUNCAST__REDIS__USERNAME", &user.name), ("RUNCAST__REDIS__PASSWORD", PASSWORD)]
}

async fn fanout(url: &str, issuer: &Issuer) -> Fanout {
    Fanout::start_with(url, &[credentials(&AclUser::fanout()), issuer.settings()].concat()).await
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn revoked_everywhere(url: &str, ports: &[u16]) {
    admit(ports).await;
    let issuer = Issuer::new();
    let (one, two) = (fanout(url, &issuer).await, fanout(url, &issuer).await);
    let (user, asking) = (AclUser::control(), issuer.settings());
    let control = Control::start_with(url, &[credentials(&user), asking].concat()).await;
    let user = AclUser::replay();
    let replay = Replay::start_with(url, &[credentials(&user), asking].concat()).await;
    let (viewer, operator) = (issuer.token(VIEWER), issuer.token(OPERATOR));
    let channel = tonic::transport::Endpoint::from_shared(control.url()).unwrap().connect_lazy();
    let (mut runs, mut tokens) = (RunServiceClient::new(channel.clone()), TokenServiceClient::new(channel));
    let create =
        proto::CreateRunRequest { run_id: "r".into(), variation_ids: vec!["v".into()], ..Default::default() };
    runs.create_run(with(create, &operator)).await.unwrap();

    // A ticket of one replica begins a stream on the other; others watch with the token itself.
    let bearer = format!("Bearer {viewer}");
    let headers = [("authorization", bearer.as_str())];
    let (status, _, answer) = http_post_text(&one.url("/v1/tickets"), &headers, "").await.unwrap();
    assert_eq!(status, 201, "{answer:?}");
    let ticket: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let mut by_ticket = two.viewer("r", &format!("ticket={}", ticket["ticket"].as_str().unwrap()));
    let mut by_token = one.viewer("r", "").with_token(&viewer);
    for watching in [&mut by_ticket, &mut by_token] {
        assert_eq!(watching.connect().await.unwrap(), 200);
        assert_eq!(watching.next().await.unwrap().unwrap().event, "status");
    }
    let watch = proto::WatchRunRequest { name: "runs/r".into() };
    let mut watched = runs.watch_run(with(watch, &viewer)).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    eventually("replay knows the run", SOON, async || {
        let (status, _, _) = http_get(&replay.url("/v1/runs/r"), &headers).await.unwrap();
        (status == 200).then_some(())
    })
    .await;

    // Only who may revokes.
    let revoke = || proto::RevokeTokenRequest {
        token_id: "t-1".into(),
        expiration: Some(Expiration::Ttl(prost_types::Duration { seconds: 60, nanos: 0 })),
    };
    let refused = tokens.revoke_token(with(revoke(), &viewer)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    tokens.revoke_token(with(revoke(), &operator)).await.unwrap();
    for watching in [&mut by_ticket, &mut by_token] {
        assert_eq!(watching.next().await.unwrap().unwrap().event, "end");
        assert_eq!(watching.history.dismissed.as_deref(), Some("revoked"));
    }
    assert_eq!(watched.message().await.unwrap_err().code(), Code::Unauthenticated);
    for url in [one.url("/v1/runs/r"), two.url("/v1/runs/r"), replay.url("/v1/runs/r")] {
        assert_eq!(http_get(&url, &headers).await.unwrap().0, 401, "{url}");
    }
    for port in ports {
        let log = command(*port, &["ACL", "LOG"]).await.unwrap();
        assert!(log.items().is_empty(), "refused on {port}: {}", log.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server() {
    let redis = Redis::start().await;
    revoked_everywhere(&redis.url(), &[redis.port()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster() {
    let cluster = Cluster::start().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    revoked_everywhere(&cluster.url(), &ports).await;
}
