//! Viewers that sit, on real sockets: everybody gets every byte once, whoever stalls, comes or goes.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runcast_protocol::{Cursor, Entry, Lane, Selection, Sequence, sse};
use runcast_sse_fanout::outlet::Outlet;
use runcast_sse_fanout::ring::RingLimits;
use runcast_sse_fanout::ring_reader::RingReader;
use runcast_sse_fanout::view::View;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn view(frames: usize) -> Arc<View> {
    let limits = RingLimits { frames, bytes: 64 << 20 };
    Arc::new(View::new(Selection::default(), Cursor::default(), limits))
}

fn say(view: &View, number: u64, length: usize) {
    let lane: Lane = "output/a".parse().unwrap();
    let variation = lane.writer.variation().unwrap().clone();
    let line = Bytes::from(format!("{number:0length$}"));
    view.push(&lane, &[Entry { sequence: Sequence::new(number).unwrap(), variation, line }]);
}

/// What somebody reads who begins after message `after` and is there until message `last`.
fn expected(after: u64, last: u64) -> Vec<u64> {
    (after + 1..=last).collect()
}

async fn pair() -> (TcpStream, Arc<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let server = server.unwrap().0;
    server.writable().await.unwrap();
    (client.unwrap(), Arc::new(server))
}

/// Serves one viewer as a connection does: sits, and reads for itself when it has to get up. Returns
/// how often that was.
fn serve(view: Arc<View>, socket: Arc<TcpStream>, mut reader: RingReader) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let outlet = Outlet::new(socket.clone(), Duration::ZERO);
        let mut rises = 0;
        loop {
            let mut seated = view.sit(socket.clone(), reader);
            let Some(risen) = seated.risen().await else { return rises };
            drop(seated);
            rises += 1;
            reader = risen.reader;
            if outlet.send_raw(&risen.rest).await.is_err() {
                return rises;
            }
            loop {
                let frames = reader.read(&view.ring()).expect("the ring is large enough");
                if frames.is_empty() {
                    break;
                }
                if outlet.send(&frames).await.is_err() {
                    return rises;
                }
            }
            if view.is_over() {
                return rises;
            }
        }
    })
}

fn enter(view: &View) -> (RingReader, u64) {
    let ring = view.ring();
    (RingReader::enter(&ring, ring.head()).unwrap(), ring.end())
}

/// Reads chunks, and the numbers in the frames in them, up to message `last`.
struct Client {
    socket: TcpStream,
    chunks: Vec<u8>,
    parser: sse::Parser,
    numbers: Vec<u64>,
}

impl Client {
    fn new(socket: TcpStream) -> Self {
        Self { socket, chunks: Vec::new(), parser: sse::Parser::default(), numbers: Vec::new() }
    }

    async fn read_to(&mut self, last: u64) {
        while self.numbers.last().is_none_or(|number| *number < last) {
            let read = timeout(SOON, self.socket.read_buf(&mut self.chunks)).await;
            assert!(read.expect("more in time").unwrap() > 0, "cut off after {:?}", self.numbers.last());
            while let Some(data) = take_chunk(&mut self.chunks) {
                let events = self.parser.push(&data);
                self.numbers.extend(events.iter().map(|event| event.data.parse::<u64>().unwrap()));
            }
        }
    }
}

fn take_chunk(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
    let end = line + 2 + size;
    if bytes.len() < end + 2 {
        return None;
    }
    assert_eq!(&bytes[end..end + 2], b"\r\n");
    let data = bytes[line + 2..end].to_vec();
    bytes.drain(..end + 2);
    Some(data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_who_come_at_any_moment_get_every_frame_once() {
    const VIEWERS: usize = 300;
    const LAST: u64 = 2000;
    let view = view(LAST as usize + 1);
    let writing = tokio::spawn({
        let view = view.clone();
        async move {
            for number in 1..=LAST {
                say(&view, number, 40);
                // Sometimes several at once.
                if number % 3 != 0 || number == LAST {
                    view.flush();
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let mut clients = Vec::new();
    for _ in 0..VIEWERS {
        let (client, server) = pair().await;
        let (reader, after) = enter(&view);
        serve(view.clone(), server, reader);
        clients.push(tokio::spawn(async move {
            let mut client = Client::new(client);
            if after < LAST {
                client.read_to(LAST).await;
            }
            (after, client.numbers)
        }));
    }
    writing.await.unwrap();
    let mut early = 0;
    for client in clients {
        let (after, numbers) = client.await.unwrap();
        assert_eq!(numbers, expected(after, LAST));
        early += usize::from(after < LAST);
    }
    assert!(early > 0, "nobody came while there was something to write");
}

#[tokio::test]
async fn who_stalls_gets_up_and_misses_nothing_while_the_others_go_on() {
    let view = view(4096);
    let (stalled, socket) = pair().await;
    let (reader, _) = enter(&view);
    let stalling = serve(view.clone(), socket, reader);
    let (client, socket) = pair().await;
    let (reader, _) = enter(&view);
    let _going_on = serve(view.clone(), socket, reader);
    let mut client = Client::new(client);
    // More than sockets hold on both ends.
    let last = 600;
    for number in 1..=last {
        say(&view, number, 32 << 10);
        view.flush();
        client.read_to(number).await;
    }
    let mut stalled = Client::new(stalled);
    stalled.read_to(last).await;
    assert_eq!(stalled.numbers, expected(0, last));
    // It sits again.
    say(&view, last + 1, 10);
    view.flush();
    stalled.read_to(last + 1).await;
    drop(stalled);
    for number in last + 2..last + 5 {
        say(&view, number, 10);
        view.flush();
        client.read_to(number).await;
    }
    assert_eq!(client.numbers, expected(0, last + 4));
    assert!(timeout(SOON, stalling).await.unwrap().unwrap() > 0, "it never had to get up");
}

#[tokio::test]
async fn who_leaves_lets_the_socket_go_at_once() {
    let view = view(16);
    let (_client, socket) = pair().await;
    let (reader, _) = enter(&view);
    let seated = view.sit(socket.clone(), reader);
    assert_eq!(Arc::strong_count(&socket), 2);
    drop(seated);
    assert_eq!(Arc::strong_count(&socket), 1);
    assert_eq!(Arc::strong_count(&view), 1);
}

#[tokio::test]
async fn who_is_called_gets_up_between_two_frames_and_the_others_stay() {
    let view = view(64);
    let (mut seats, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (client, socket) = pair().await;
        let (reader, _) = enter(&view);
        seats.push((view.sit(socket.clone(), reader), socket));
        clients.push(Client::new(client));
    }
    say(&view, 1, 10);
    view.flush();
    let (seated, socket) = &mut seats[1];
    let risen = timeout(SOON, seated.get_up(socket)).await.unwrap().unwrap();
    assert!(risen.rest.is_empty() && risen.reader.position().to_string() == "a:1");
    say(&view, 2, 10);
    view.flush();
    for (index, client) in clients.iter_mut().enumerate() {
        client.read_to(if index == 1 { 1 } else { 2 }).await;
    }
    // Nobody else writes to who has got up.
    drop(seats);
    let mut rest = Vec::new();
    clients[1].socket.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() && clients[1].chunks.is_empty());
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats_and_the_cleared_get_up() {
    let view = view(16);
    let (mut client, socket) = pair().await;
    let (reader, _) = enter(&view);
    let mut seated = view.sit(socket, reader);
    view.beat(Duration::from_secs(3600));
    view.beat(Duration::ZERO);
    let mut heartbeat = [0; 7];
    timeout(SOON, client.read_exact(&mut heartbeat)).await.unwrap().unwrap();
    assert_eq!(&heartbeat, b"2\r\n:\n\r\n");
    view.clear();
    assert!(timeout(SOON, seated.risen()).await.unwrap().is_some());
    assert!(!view.has_seats());
    client.shutdown().await.unwrap();
}
