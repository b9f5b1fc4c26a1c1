//! How many connections and requests a client may have, and who counts as one.

use runcast_runtime::http::{ClientHeader, Proxies, ServeOptions};
use runcast_runtime::rates::Rate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SOON, get, get_for, http2, server, text};

#[tokio::test]
async fn a_client_has_its_share_of_connections() {
    let server = server(ServeOptions { max_connections_per_client: 2, ..ServeOptions::default() }).await;
    let connect = async || {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let is_served = timeout(SOON, client.read(&mut [0; 8])).await.unwrap().unwrap_or(0) > 0;
        is_served.then_some(client)
    };
    let (first, _second) = (connect().await.unwrap(), connect().await.unwrap());
    assert!(connect().await.is_none());
    drop(first);
    let again = async { while connect().await.is_none() {} };
    timeout(SOON, again).await.expect("one left, one may come");
}

#[tokio::test]
async fn streams_count_for_whom_a_trusted_proxy_names() {
    let proxies = Proxies::parse("127.0.0.1", ClientHeader::XForwardedFor).unwrap();
    let server = server(ServeOptions { max_connections_per_client: 2, proxies, ..http2() }).await;
    let (proxy, other) = (server.connect().await, server.connect().await);
    let one = Some("1.2.3.4, 198.51.100.1");
    let first = get_for(&proxy, "/endless", one).await.unwrap();
    let _second = get_for(&other, "/endless", one).await.unwrap();
    let refused = get_for(&proxy, "/endless", one).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let elsewhere = get_for(&proxy, "/", Some("198.51.100.1, 198.51.100.2")).await;
    assert_eq!(text(elsewhere).await, "198.51.100.2");
    drop(first);
    let again = async { while get_for(&proxy, "/", one).await.unwrap().status() != 200 {} };
    timeout(SOON, again).await.expect("one ended, one may begin");
}

#[tokio::test]
async fn requests_come_at_a_rate_for_whom_a_trusted_proxy_names() {
    let proxies = Proxies::parse("127.0.0.1", ClientHeader::XForwardedFor).unwrap();
    let requests_per_client = Rate { per_second: 1, burst: 3.try_into().unwrap() };
    let server = server(ServeOptions { requests_per_client, proxies, ..http2() }).await;
    let proxy = server.connect().await;
    let one = Some("198.51.100.1");
    let mut answers = Vec::new();
    // The fourth comes within a second of the first, unless the machine stood still.
    while !answers.contains(&429) {
        let answer = get_for(&proxy, "/", one).await.unwrap();
        answers.push(answer.status().as_u16());
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert!(text(Ok(answer)).await.contains("too many requests from your address"));
        }
    }
    assert!(answers.len() > 3, "{answers:?}");
    assert_eq!(get_for(&proxy, "/", Some("198.51.100.2")).await.unwrap().status(), 200);
    // Whether it is well, the proxy may ask as often as it likes.
    for _ in 0..10 {
        assert_eq!(get(&proxy, "/").await.unwrap().status(), 200);
    }
    let back = async { while get_for(&proxy, "/", one).await.unwrap().status() != 200 {} };
    timeout(SOON, back).await.expect("a second later");
}

#[tokio::test]
async fn connections_come_at_twice_the_rate_of_requests() {
    let requests_per_client = Rate { per_second: 1, burst: 2.try_into().unwrap() };
    let server = server(ServeOptions { requests_per_client, ..ServeOptions::default() }).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&String::new()) {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        // To one that was closed already it may fail.
        let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, client.read_to_end(&mut answer)).await.unwrap();
        seen.push(String::from_utf8(answer).unwrap().chars().take(12).collect::<String>());
    }
    let count = |status: &str| seen.iter().filter(|line| line.ends_with(status)).count();
    assert!(count("200") >= 2 && count("429") >= 1 && seen.len() >= 5, "{seen:?}");
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let server = server(http2()).await;
    let client = server.connect().await;
    assert_eq!(text(get_for(&client, "/", Some("198.51.100.1")).await).await, "127.0.0.1");
}
