//! The admin port over a real socket.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;

use opentelemetry::metrics::MeterProvider as _;
use runcast_runtime::{Admin, AdminConfig, Health, Shutdown, Telemetry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

async fn admin(health: &Health, telemetry: &Telemetry) -> (SocketAddr, Shutdown, JoinHandle<()>) {
    let config = AdminConfig { listen: "127.0.0.1:0".to_owned() };
    let admin = Admin::bind(&config, health.clone(), telemetry).await.unwrap().expect("configured");
    let shutdown = Shutdown::new();
    (admin.local_addr(), shutdown.clone(), tokio::spawn(admin.run(shutdown)))
}

/// Head and body of an answer.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn it_tells_life_readiness_and_metrics() {
    let health = Health::default();
    let telemetry = Telemetry::detached("runcast-test").unwrap();
    telemetry.meter_provider().meter("test").u64_counter("words").build().add(3, &[]);
    let (address, shutdown, task) = admin(&health, &telemetry).await;

    let (head, body) = ask(address, "GET", "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "ok");

    health.set("redis", false, "connection refused");
    let (head, body) = ask(address, "GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, health.report());
    health.set("redis", true, "connected");
    assert!(ask(address, "GET", "/readyz").await.0.starts_with("HTTP/1.1 200"));

    let (head, body) = ask(address, "GET", "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nwords_total 3\n"), "{body}");
    assert!(body.contains(r#"service_name="runcast-test""#), "{body}");

    shutdown.trigger();
    task.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn what_it_does_not_have_it_says() {
    let telemetry = Telemetry::detached("runcast-test").unwrap();
    let (address, ..) = admin(&Health::default(), &telemetry).await;

    let (head, body) = ask(address, "HEAD", "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 2"), "{head}");
    assert_eq!(body, "");

    let (head, _) = ask(address, "POST", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 405") && head.contains("allow: GET, HEAD"), "{head}");

    let (head, body) = ask(address, "GET", "/").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert!(body.contains("/readyz"), "{body}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_none_is_none() {
    let telemetry = Telemetry::detached("runcast-test").unwrap();
    let (address, ..) = admin(&Health::default(), &telemetry).await;
    let taken = AdminConfig { listen: address.to_string() };
    let error = format!("{:#}", Admin::bind(&taken, Health::default(), &telemetry).await.unwrap_err());
    assert!(error.contains(&address.to_string()) && error.contains("admin.listen"), "{error}");

    let off = AdminConfig { listen: String::new() };
    assert!(Admin::bind(&off, Health::default(), &telemetry).await.unwrap().is_none());
}
