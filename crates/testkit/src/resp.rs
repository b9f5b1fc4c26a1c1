//! As much of RESP2 as tests need, so that they look at Redis with other eyes than the bus.

use std::future::Future;
use std::pin::Pin;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A reply of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+` or `$`
    Text(Vec<u8>),
    /// `-`
    Error(String),
    /// `:`
    Number(i64),
    /// `$-1` or `*-1`
    Nil,
    /// `*`
    List(Vec<Reply>),
}

impl Reply {
    /// The text, numbers as text.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Error(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Nil => String::new(),
            Self::List(items) => items.iter().map(Self::text).collect::<Vec<_>>().join(" "),
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// Sends one command over a connection of its own.
///
/// # Errors
/// If the server cannot be reached or does not answer within two seconds.
pub async fn command<A: AsRef<[u8]>>(port: u16, arguments: &[A]) -> anyhow::Result<Reply> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.as_ref().len()).as_bytes());
            request.extend_from_slice(argument.as_ref());
            request.extend_from_slice(b"\r\n");
        }
        stream.write_all(&request).await?;
        read(&mut stream).await
    };
    tokio::time::timeout(std::time::Duration::from_secs(2), exchange).await.context("no answer")?
}

fn read(
    stream: &mut BufReader<TcpStream>,
) -> Pin<Box<dyn Future<Output = anyhow::Result<Reply>> + Send + '_>> {
    Box::pin(async move {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let (kind, rest) = line.trim_end().split_at_checked(1).context("connection closed")?;
        Ok(match kind {
            "+" => Reply::Text(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Number(rest.parse()?),
            "$" | "*" if rest.starts_with('-') => Reply::Nil,
            "$" => {
                let mut text = vec![0; rest.parse::<usize>()? + 2];
                stream.read_exact(&mut text).await?;
                text.truncate(text.len() - 2);
                Reply::Text(text)
            }
            "*" => {
                let mut items = Vec::new();
                for _ in 0..rest.parse::<usize>()? {
                    items.push(read(stream).await?);
                }
                Reply::List(items)
            }
            _ => bail!("not RESP2: {line:?}"),
        })
    })
}
