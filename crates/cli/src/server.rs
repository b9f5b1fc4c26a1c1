//! Talking HTTP to a service.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::token;

/// How long connecting may take, and then the head of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read as a whole.
const MAX_ANSWER: usize = 16 << 20;

/// Where a fan-out is, or another service that speaks HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    authority: String,
    /// What stands before all paths, for a service behind a proxy; no slash at the end.
    base: String,
}

/// An answer whose body is still to come. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Server {
    /// The same host with another port.
    pub(crate) fn with_port(&self, port: u16) -> Self {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        Self { authority: format!("{host}:{port}"), base: String::new() }
    }

    /// Asks for a path that begins with a slash.
    ///
    /// # Errors
    /// If there is no answer in time; an answer that is an error is an answer.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, headers, PATIENCE).await
    }

    /// The same with any method, and with as much patience as the answer may need.
    ///
    /// # Errors
    /// If there is no answer in time; an answer that is an error is an answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let connect = timeout(PATIENCE, TcpStream::connect(&self.authority)).await;
        let stream = connect
            .map_err(|_| anyhow::anyhow!("no connection within {PATIENCE:?}"))
            .and_then(|stream| Ok(stream?))
            .with_context(|| format!("{self} cannot be reached"))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // A connection that breaks is told by its body.
            let _ = connection.await;
        }));
        let path = format!("{}{path}", self.base);
        let agent = concat!("runcast/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("user-agent", agent);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(bearer) = token::bearer() {
            request = request.header("authorization", bearer);
        }
        let response = timeout(patience, sender.send_request(request.body(Empty::<Bytes>::new())?))
            .await
            .map_err(|_| anyhow::anyhow!("{self} does not answer within {patience:?}"))?
            .with_context(|| format!("{self} does not answer in HTTP"))?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body, _connection: connection })
    }
}

impl Answer {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self.body.frame().await {
            None => Ok(None),
            Some(frame) => Ok(Some(frame?.into_data().unwrap_or_default())),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// If the connection breaks or stands still, or the body is unreasonably long.
    pub(crate) async fn text(self) -> anyhow::Result<String> {
        let collected = timeout(PATIENCE, Limited::new(self.body, MAX_ANSWER).collect()).await;
        let body = collected.context("the answer stands still")?.map_err(|error| anyhow::anyhow!(error))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }

    /// What the JSON of an answer says, if it is a good one.
    ///
    /// # Errors
    /// With what an error answer says, or if it is something else than expected.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        if !self.status.is_success() {
            bail!("{}", self.problem().await);
        }
        serde_json::from_str(&self.text().await?).context("what it answers cannot be read")
    }

    /// What an error answer says to people (RFC 9457), or its status.
    pub(crate) async fn problem(self) -> String {
        let status = self.status;
        let text = self.text().await.unwrap_or_default();
        let detail = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
        detail.unwrap_or_else(|| status.to_string())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

impl FromStr for Server {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        const EXAMPLE: &str = "expected a URL such as http://127.0.0.1:8080";
        let uri: Uri = text.parse().context(EXAMPLE)?;
        if uri.scheme_str() == Some("https") {
            bail!("this command speaks plain HTTP only; {EXAMPLE}");
        }
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).context(EXAMPLE)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { authority, base: uri.path().trim_end_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, read) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://fanout", "http://fanout:80"),
            ("http://[::1]:9/live/", "http://[::1]:9/live"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), read);
        }
        assert_eq!(
            "http://[::1]:9/live".parse::<Server>().unwrap().with_port(1).to_string(),
            "http://[::1]:1"
        );
        for bad in ["", "127.0.0.1:8080", "localhost", "https://host", "ftp://host", "/path"] {
            assert!(bad.parse::<Server>().is_err(), "{bad:?} was taken");
        }
    }
}
