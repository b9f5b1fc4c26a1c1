//! The port for those who run the service: `/livez`, `/readyz`, `/metrics`, and pages of its own.

use std::{fmt, future::ready, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    header::{ALLOW, CACHE_CONTROL, HeaderValue},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::net::TcpListener;

use crate::{
    health::Health,
    http::{Body, ServeOptions, answer, full, serve, text},
    metrics::Prometheus,
    shutdown::Shutdown,
    telemetry::Telemetry,
};

/// Configuration of the admin port.
#[derive(Clone, Debug, Deserialize)]
pub struct AdminConfig {
    /// Address and port, e.g. `0.0.0.0:9090`. Port 0 is any free one, the empty string is no admin port.
    #[serde(deserialize_with = "address")]
    pub listen: String,
}

/// The admin port, bound.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    local_addr: SocketAddr,
    health: Health,
    prometheus: Prometheus,
    pages: Vec<Page>,
}

type Answer = dyn Fn(&str) -> Response<Body> + Send + Sync;

/// A page of the service's own on the admin port.
#[derive(Clone)]
pub struct Page {
    path: &'static str,
    answer: Arc<Answer>,
}

impl Page {
    /// What `answer` gives for a query, at `path`.
    pub fn new(path: &'static str, answer: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self { path, answer: Arc::new(answer) }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Page").field(&self.path).finish()
    }
}

impl Admin {
    /// Binds the port, if one is configured.
    ///
    /// # Errors
    /// The address does not exist here or is taken.
    pub async fn bind(
        config: &AdminConfig,
        health: Health,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Option<Admin>> {
        if config.listen.is_empty() {
            return Ok(None);
        }
        let context = || format!("cannot listen for admin requests on `{}` (`admin.listen`)", config.listen);
        let listener = TcpListener::bind(&config.listen).await.with_context(context)?;
        let local_addr = listener.local_addr().with_context(context)?;
        health.observe();
        let (prometheus, pages) = (telemetry.prometheus(), Vec::new());
        Ok(Some(Admin { listener, local_addr, health, prometheus, pages }))
    }

    /// The same with one page more.
    #[must_use]
    pub fn with(mut self, page: Page) -> Admin {
        self.pages.push(page);
        self
    }

    /// The address it listens on, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown`. Give it one that is set off after the service's own drain, so that
    /// the drain can be watched.
    pub async fn run(self, shutdown: Shutdown) {
        let Admin { listener, health, prometheus, pages, .. } = self;
        let pages: Arc<[Page]> = pages.into();
        let service = move |request: Request<_>| {
            ready(route(request.method(), request.uri(), &health, &prometheus, &pages))
        };
        let options =
            ServeOptions { max_connections: 64, drain: Duration::from_secs(1), ..ServeOptions::default() };
        serve(listener, service, options, shutdown).await;
    }
}

fn route(
    method: &Method,
    uri: &Uri,
    health: &Health,
    prometheus: &Prometheus,
    pages: &[Page],
) -> Response<Body> {
    let path = uri.path();
    let page = pages.iter().find(|page| page.path == path);
    let is_known = page.is_some() || matches!(path, "/livez" | "/readyz" | "/metrics");
    let mut response = match path {
        _ if is_known && method != Method::GET && method != Method::HEAD => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/livez" => text(StatusCode::OK, "ok"),
        "/readyz" => {
            let (ready, report) = health.snapshot();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            answer(status, "application/json", full(report))
        }
        "/metrics" => {
            answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", full(prometheus.text()))
        }
        _ => match page {
            Some(page) => (page.answer)(uri.query().unwrap_or_default()),
            None => {
                let more: String = pages.iter().map(|page| format!(", {}", page.path)).collect();
                text(StatusCode::NOT_FOUND, format!("not found; there are /livez, /readyz, /metrics{more}\n"))
            }
        },
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let listen = String::deserialize(deserializer)?;
    let valid = listen.is_empty()
        || listen
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if valid {
        Ok(listen)
    } else {
        Err(D::Error::custom("expected address:port, such as `0.0.0.0:9090`, or nothing"))
    }
}
