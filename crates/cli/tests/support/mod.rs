//! A replay service made for tests: it answers as the real one does, and breaks off when told to.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code, of which each test uses its part"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use runcast_protocol::{Cursor, Json, Message, MessageType, RunId, Sequence, VariationId, Writer, timestamp};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What is asked: method, path, query, `Range` header.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub range: Option<u64>,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection is cut after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self::ok(value.to_string())
    }

    pub fn problem(status: u16, detail: &str) -> Self {
        Self { status, ..Self::json(&serde_json::json!({"detail": detail})) }
    }
}

/// A server on a loopback port that goes with this value.
pub struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: AbortOnDropHandle<()>,
}

impl Service {
    /// Starts one; `answer` also gets the number of the request.
    pub async fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other: so they can be counted. A client that has had enough is no error.
                let _ = serve(stream, &seen, &answer).await;
            }
        });
        Self { port, asked, _task: AbortOnDropHandle::new(task) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &(impl Fn(usize, &Asked) -> Reply + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut asked) = (String::new(), Asked::default());
    stream.read_line(&mut head).await?;
    let mut words = head.split(' ');
    asked.method = words.next().unwrap_or_default().to_owned();
    let (path, query) = words.next().unwrap_or_default().split_once('?').map_or_else(
        || (head.split(' ').nth(1).unwrap_or_default().to_owned(), String::new()),
        |(path, query)| (path.to_owned(), query.to_owned()),
    );
    asked.path = path;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    asked.query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? <= 2 {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            asked.range = range.trim().trim_end_matches('-').parse().ok();
        }
    }
    let number = seen.lock().unwrap().len();
    seen.lock().unwrap().push(asked.clone());
    let Reply { status, headers, body, cut } = answer(number, &asked);
    let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream.into_inner();
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())]).await?;
    stream.shutdown().await
}

/// A run of two variations that say `count` things each, as NDJSON lines in the order of their times.
pub fn recorded(count: u64) -> Vec<Vec<u8>> {
    let begun = timestamp::now();
    let line = |variation: &str, number: u64| {
        let variation = VariationId::new(variation).unwrap();
        Message {
            timestamp: begun + std::time::Duration::from_millis(number),
            run_id: RunId::new("run-1").unwrap(),
            variation_id: variation.clone(),
            sequence: Sequence::new(number).unwrap(),
            kind: MessageType::Output,
            content: Json::string(&format!("{variation} says {number} – \"grüßt\"\n")),
            metadata: Json::empty_object(),
            writer: Writer::Variation(variation),
            extra: Vec::new(),
        }
        .to_line()
    };
    (1..=count).flat_map(|number| ["a", "b"].map(|variation| line(variation, number))).collect()
}

/// What one variation said.
pub fn words(lines: &[Vec<u8>], variation: &str) -> String {
    let messages = lines.iter().map(|line| Message::parse(line).unwrap());
    let said = messages.filter(|message| message.variation_id.as_str() == variation);
    said.map(|message| message.content.to_text().unwrap()).collect()
}

/// A page of what follows the cursor that is asked for.
pub fn page(lines: &[Vec<u8>], asked: &Asked, limit: usize) -> Reply {
    let mut cursor: Cursor = asked.query["after"].parse().unwrap();
    let parsed = lines.iter().map(|line| (Message::parse(line).unwrap(), line));
    let rest = parsed.filter(|(message, _)| message.sequence > cursor.position(&message.lane()));
    let rest: Vec<_> = rest.collect();
    let mut reply = Reply::ok(Vec::new());
    for (message, line) in rest.iter().take(limit) {
        cursor.set(&message.lane(), message.sequence);
        reply.body.extend_from_slice(line);
        reply.body.push(b'\n');
    }
    if rest.len() > limit {
        reply.headers.push(("runcast-next", cursor.to_string()));
    }
    reply
}
