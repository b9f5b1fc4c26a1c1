//! Plain HTTP requests, over TCP and Unix sockets.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// GETs an address such as `http://127.0.0.1:8080/path`: status, headers and body.
///
/// # Errors
/// If the server cannot be reached.
pub async fn http_get(url: &str, headers: &[(&str, &str)]) -> anyhow::Result<(u16, HeaderMap, Bytes)> {
    let rest = url.strip_prefix("http://127.0.0.1:").context("a loopback address")?;
    let (port, path) = rest.split_once('/').context("a path")?;
    let (response, task) = request(port.parse()?, &format!("/{path}"), headers).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    task.abort();
    Ok((parts.status.as_u16(), parts.headers, body))
}

/// POSTs nothing to an address such as `http://127.0.0.1:8080/path`: status and body.
///
/// # Errors
/// If the server cannot be reached.
pub async fn http_post(url: &str) -> anyhow::Result<(u16, Bytes)> {
    let rest = url.strip_prefix("http://127.0.0.1:").context("a loopback address")?;
    let (port, path) = rest.split_once('/').context("a path")?;
    let stream = TcpStream::connect(("127.0.0.1", port.parse()?)).await?;
    let request = Request::post(format!("/{path}")).header("host", "127.0.0.1");
    let (response, task) = send(stream, request.body(Full::default())?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    task.abort();
    Ok((status, body))
}

/// POSTs text with headers to an address such as `http://127.0.0.1:8080/path`: status, headers and body.
///
/// # Errors
/// If the server cannot be reached.
pub async fn http_post_text(
    url: &str,
    headers: &[(&str, &str)],
    text: &str,
) -> anyhow::Result<(u16, HeaderMap, Bytes)> {
    let rest = url.strip_prefix("http://127.0.0.1:").context("a loopback address")?;
    let (port, path) = rest.split_once('/').context("a path")?;
    let stream = TcpStream::connect(("127.0.0.1", port.parse()?)).await?;
    let mut request = Request::post(format!("/{path}")).header("host", "127.0.0.1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, task) = send(stream, request.body(Full::new(text.to_owned().into()))?).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    task.abort();
    Ok((parts.status.as_u16(), parts.headers, body))
}

/// POSTs to a Unix socket: status and body.
///
/// # Errors
/// If the server cannot be reached.
pub async fn unix_post(
    socket: &Path,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> anyhow::Result<(u16, Bytes)> {
    let request = Request::post(path).header("host", "localhost").header("content-type", content_type);
    let stream = UnixStream::connect(socket).await?;
    let (response, task) = send(stream, request.body(Full::new(body.into()))?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    task.abort();
    Ok((status, body))
}

/// GETs from a Unix socket: status and body.
///
/// # Errors
/// If the server cannot be reached.
pub async fn unix_get(socket: &Path, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let request = Request::get(path).header("host", "localhost").header("accept", "application/json");
    let request = request.body(Full::default())?;
    let (response, task) = send(UnixStream::connect(socket).await?, request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    task.abort();
    Ok((status, body))
}

/// GETs a path of a loopback port. The answer's body lives as long as the task.
pub(crate) async fn request(
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<(Response<Incoming>, JoinHandle<()>)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut request = Request::get(path).header("host", "127.0.0.1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(stream, request.body(Full::default())?).await
}

async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(Response<Incoming>, JoinHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let task = tokio::spawn(async move {
        // A connection that breaks is told by its body.
        let _ = connection.await;
    });
    Ok((sender.send_request(request).await?, task))
}
