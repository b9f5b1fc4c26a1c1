//! What else speaks with the control-plane: tools, probes, pages, clients with certificates, callers in a
//! hurry, and Redis when it is away.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use prost::Message as _;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{Authority, Control, Redis, eventually, http_get};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_types::StatusExt;

use support::{Agent, Client, PATIENCE, pause};

const LONG: Duration = Duration::from_secs(60);

fn get(name: &str) -> proto::GetRunRequest {
    proto::GetRunRequest { name: name.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_can_ask_what_there_is() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let channel = Endpoint::from_shared(control.url()).unwrap().connect_lazy();
    let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("runcast.control.v1.Command".into())),
    ]);
    let answers = ServerReflectionClient::new(channel).server_reflection_info(requests).await.unwrap();
    let answers: Vec<ServerReflectionResponse> = answers.into_inner().map(Result::unwrap).collect().await;
    let [listed, file] = answers.as_slice() else { panic!("{answers:?}") };
    let Some(MessageResponse::ListServicesResponse(listed)) = &listed.message_response else {
        panic!("{listed:?}")
    };
    let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in
        ["grpc.health.v1.Health", "runcast.control.v1.CommandService", "runcast.control.v1.RunService"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(matches!(file.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_callers_and_probes_are_told_and_afterwards_all_goes_on() {
    let mut redis = Redis::builder().appendonly().start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let channel = Endpoint::from_shared(control.url()).unwrap().connect_lazy();
    let health = async |status: ServingStatus| {
        let what = format!("health is {status:?}");
        eventually(&what, PATIENCE, async || {
            let service = "runcast.control.v1.CommandService".to_owned();
            let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest { service }).await;
            (answer.unwrap().into_inner().status() == status).then_some(())
        })
        .await;
    };
    health(ServingStatus::Serving).await;
    redis.kill9();
    let request = proto::SendCommandRequest { request_id: "once".into(), ..pause("r", LONG) };
    let refused = client.commands.send_command(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "REDIS_AWAY");
    assert!(refused.message().contains("request_id"), "{refused}");
    health(ServingStatus::NotServing).await;
    let ready = http_get(&control.admin_url("/readyz"), &[]).await.unwrap();
    assert_eq!(ready.0, 503);

    redis.restart().await;
    health(ServingStatus::Serving).await;
    let sent = eventually("the same request is taken", PATIENCE, async || {
        client.clone().commands.send_command(request.clone()).await.ok()
    })
    .await;
    let mut agent = Agent::new(&redis.url(), "r", "v");
    let issued = agent.next().await;
    assert_eq!(sent.into_inner().command.unwrap().name, format!("runs/r/commands/{}", issued.command));
    assert!(agent.receive().await.is_empty(), "issued once");
}

const GET_RUN: &str = "/runcast.control.v1.RunService/GetRun";
const PREFLIGHT: &str = "access-control-request-method: POST\r\n\
                         access-control-request-headers: content-type,x-grpc-web,runcast-caller\r\n";

/// One request over HTTP/1.1, as pages make them; the head and the body of the answer.
async fn http1(control: &Control, method: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let address = control.url();
    let mut stream = tokio::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "{method} {GET_RUN} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase(), answer[end + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_calls_over_plain_http() {
    let redis = Redis::start().await;
    let origins = [("RUNCAST__CORS__ORIGINS", "https://app.example")];
    let control = Control::start_with(&redis.url(), &origins).await;
    Client::of(&control).await.create("r", &["v"]).await;
    let preflight = |origin: &str| format!("origin: {origin}\r\n{PREFLIGHT}");
    let (head, _) = http1(&control, "OPTIONS", &preflight("https://app.example"), b"").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("access-control-allow-origin: https://app.example"), "{head}");
    assert!(head.contains("runcast-caller"), "{head}");

    let message = get("runs/r").encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let headers =
        "origin: https://app.example\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n";
    let (head, body) = http1(&control, "POST", headers, &frame).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("access-control-expose-headers") && head.contains("grpc-status"), "{head}");
    // Perhaps in chunks: the message, and after it the frame of the trailers.
    let told = String::from_utf8_lossy(&body);
    assert!(told.contains("runs/r") && told.contains("grpc-status:0"), "{told:?}");
    // Another origin is not let in.
    let (head, _) = http1(&control, "OPTIONS", &preflight("https://evil.example"), b"").await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_only_clients_with_its_certificate_are_let_in() {
    let redis = Redis::start().await;
    let authority = Authority::new();
    let path = |file: std::path::PathBuf| file.display().to_string();
    let (cert, key, ca) =
        (path(authority.cert_file()), path(authority.key_file()), path(authority.ca_file()));
    let settings = [
        ("RUNCAST__TLS__CERTIFICATE_FILE", cert.as_str()),
        ("RUNCAST__TLS__KEY_FILE", key.as_str()),
        ("RUNCAST__TLS__CLIENT_CA_FILE", ca.as_str()),
    ];
    let control = Control::start_with(&redis.url(), &settings).await;
    let read = |path: &str| std::fs::read(path).unwrap();
    let anonymous = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&ca)));
    let known = anonymous.clone().identity(Identity::from_pem(read(&cert), read(&key)));
    let url = control.url().replace("http://", "https://");
    let call = async |tls: ClientTlsConfig| {
        let endpoint = Endpoint::from_shared(url.clone()).unwrap().tls_config(tls).unwrap();
        RunServiceClient::new(endpoint.connect_lazy()).get_run(get("runs/none")).await.unwrap_err().code()
    };
    assert_eq!(call(known).await, Code::NotFound, "let in");
    assert_ne!(call(anonymous).await, Code::NotFound, "not let in");
    let plain = Endpoint::from_shared(control.url()).unwrap().connect_lazy();
    assert_ne!(
        RunServiceClient::new(plain).get_run(get("runs/none")).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_deadline_passes_is_told_and_the_command_goes_on() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let execute = proto::ExecuteCommandRequest {
        request: Some(proto::SendCommandRequest { request_id: "once".into(), ..pause("r", LONG) }),
    };
    // Only the server looks at this; the client would give up by itself if it were set with `set_timeout`.
    let mut request = Request::new(execute.clone());
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let refused = client.commands.execute_command(request).await.unwrap_err();
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused}");
    let mut agent = Agent::new(&redis.url(), "r", "v");
    let issued = agent.next().await;
    agent.ack(&issued.command, runcast_protocol::Step::Applied).await;
    // Who asks again with the same key gets the end of the same command.
    let ended = client.commands.execute_command(execute).await.unwrap().into_inner().command.unwrap();
    assert_eq!(ended.name, format!("runs/r/commands/{}", issued.command));
    assert_eq!(ended.state(), proto::CommandState::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_from_elsewhere_is_served_while_another_floods() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let flood = tokio::spawn({
        let client = client.clone();
        async move {
            let mut refused = 0;
            for _ in 0..1000 {
                let answer = client.clone().runs.get_run(get("runs/r")).await;
                refused += u32::from(answer.is_err_and(|status| status.code() == Code::ResourceExhausted));
            }
            refused
        }
    });
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let channel: Channel =
        Endpoint::from_shared(control.url()).unwrap().local_address(Some(elsewhere)).connect_lazy();
    let mut other = RunServiceClient::new(channel);
    let mut served = 0;
    while !flood.is_finished() && served < 100 {
        other.get_run(get("runs/r")).await.unwrap();
        served += 1;
    }
    assert!(served > 0);
    assert!(flood.await.unwrap() > 0, "the other was refused");
    let (_, _, metrics) = http_get(&control.admin_url("/metrics"), &[]).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics);
    let counted = metrics.lines().any(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count{")
            && line.contains(r#"rpc_method="runcast.control.v1.RunService/GetRun""#)
            && line.contains(r#"rpc_response_status_code="RESOURCE_EXHAUSTED""#)
    });
    assert!(counted, "{metrics}");
}
