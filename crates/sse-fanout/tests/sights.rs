//! Who runs the service sees who is behind.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_testkit::{Fanout, Pen, Redis, eventually, http_get};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(20);

/// Begins a stream and takes only its head; the kernel holds little for it.
async fn stalled(fanout: &Fanout, run: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], fanout.port()).into()).await.unwrap();
    let request = format!("GET /v1/runs/{run}/events HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn who_takes_nothing_is_seen_first_until_it_is_gone() {
    let redis = Redis::start().await;
    let settings = [("RUNCAST__HTTP__SEND_BUFFER", "16KiB"), ("RUNCAST__VIEW__RING_FRAMES", "100000")];
    let fanout = Fanout::start_with(&redis.url(), &settings).await;
    let look = async |query: &str| {
        let url = fanout.admin_url(&format!("/debug/viewers{query}"));
        let (status, _, body) = http_get(&url, &[]).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (mut busy, mut quiet) = (Pen::new(&redis.url(), "busy", "v"), Pen::new(&redis.url(), "quiet", "v"));
    busy.say("hello").await;
    quiet.say("hello").await;
    let slow = stalled(&fanout, "busy").await;
    let mut watching = fanout.viewer("busy", "");
    watching.reconnect(SOON).await.unwrap();
    let mut level = fanout.viewer("quiet", "");
    level.reconnect(SOON).await.unwrap();
    let reading = tokio::spawn(async move { watching.watch_to_end(SOON * 3).await.map(|_| watching) });

    eventually("all three are seen", SOON, async || (look("").await.1["viewers"] == 3).then_some(())).await;
    let noise: String = (0..500).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    let seen = eventually("one is seen to be slow", SOON, async || {
        busy.say(&noise).await;
        let (status, seen) = look("").await;
        assert_eq!(status, 200);
        (seen["worst"][0]["lag"].as_u64()? > 20).then_some(seen)
    })
    .await;
    let worst = &seen["worst"][0];
    assert_eq!((&worst["run_id"], &worst["state"]), (&"busy".into(), &"slow".into()), "{seen}");
    assert_eq!((&worst["client"], &worst["transport"]), (&"127.0.0.1".into(), &"http1".into()), "{seen}");
    assert!(worst["connected_seconds"].as_f64() >= worst["waiting_seconds"].as_f64(), "{seen}");
    assert!(seen["worst"].as_array().unwrap().iter().all(|row| row["run_id"] == "busy"), "{seen}");

    drop(slow);
    eventually("it is forgotten", SOON, async || {
        let seen = look("?limit=1").await.1;
        (seen["viewers"] == 2 && seen["behind"] == 0).then_some(())
    })
    .await;
    busy.state(runcast_protocol::State::Succeeded).await;
    reading.await.unwrap().unwrap();
    for (query, status) in [("?limit=0", 400), ("?limit=x", 400), ("?run=r", 400), ("?limit=1000", 200)] {
        assert_eq!(look(query).await.0, status, "{query}");
    }
}
