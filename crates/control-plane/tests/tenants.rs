//! What a tenant's token lets him do to others' runs: nothing, and he does not learn of them.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{Control, Redis};
use tonic::{Code, Request};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn with<T>(message: T, claims: &str) -> Request<T> {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, text.as_bytes()));
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {text}.{signature}").parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_neither_sees_nor_touches_the_others() {
    let redis = Redis::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let path = file.path().to_str().unwrap();
    let settings = [("RUNCAST__AUTH__MODE", "jwt"), ("RUNCAST__AUTH__SECRET_FILE", path)];
    let control = Control::start_with(&redis.url(), &settings).await;
    let mut runs =
        RunServiceClient::new(tonic::transport::Channel::from_shared(control.url()).unwrap().connect_lazy());
    let all = r#"{"exp":4000000000,"runs":["*"],"operations":["create","view"]}"#;
    let ours = r#"{"exp":4000000000,"runs":["a-*"],"operations":["create","view","end"]}"#;
    let new = |run: &str| proto::CreateRunRequest {
        run_id: run.into(),
        variation_ids: vec!["v".into()],
        ..Default::default()
    };
    for run in ["a-1", "b-1", "b-2"] {
        runs.create_run(with(new(run), all)).await.unwrap();
    }
    let list = proto::ListRunsRequest { page_size: 1, ..Default::default() };
    let page = runs.list_runs(with(list, ours)).await.unwrap().into_inner();
    assert_eq!(
        (page.runs.len(), page.runs[0].name.as_str(), page.next_page_token.as_str()),
        (1, "runs/a-1", "")
    );

    let mut answers = Vec::new();
    for run in ["b-1", "b-9"] {
        let name = format!("runs/{run}");
        let end = proto::EndRunRequest { name: name.clone(), ..Default::default() };
        let refused = [
            runs.get_run(with(proto::GetRunRequest { name: name.clone() }, ours)).await.unwrap_err(),
            runs.watch_run(with(proto::WatchRunRequest { name }, ours)).await.unwrap_err(),
            runs.end_run(with(end, ours)).await.unwrap_err(),
            runs.create_run(with(new(run), ours)).await.unwrap_err(),
        ];
        answers.push(refused.map(|status| (status.code(), status.message().to_owned())));
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|(code, _)| *code == Code::PermissionDenied));
    let get = || proto::GetRunRequest { name: "runs/a-1".into() };
    assert_eq!(runs.get_run(get()).await.unwrap_err().code(), Code::Unauthenticated);

    // A watcher whose token is revoked is let go.
    let named = r#"{"exp":4000000000,"jti":"t","runs":["a-1"],"operations":["view"]}"#;
    let watch = proto::WatchRunRequest { name: "runs/a-1".into() };
    let mut watched = runs.watch_run(with(watch, named)).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let operator = bus(&redis.url());
    operator.revoke_token("t", std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(watched.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(runs.get_run(with(get(), named)).await.unwrap_err().code(), Code::Unauthenticated);
}

fn bus(url: &str) -> runcast_bus::Bus {
    runcast_bus::Bus::connect(&runcast_bus::RedisConfig::new(url)).unwrap()
}
