//! Paths and what they answer.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue, VARY};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use opentelemetry::KeyValue;
use runcast_auth::{Access, Gate, Lease, Operation};
use runcast_protocol::RunId;
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{
    Body, CanTakeOver, ClientAddress, Takeover, Upgrade, empty, event_stream, json, problem,
};

use crate::compression::Encodings;
use crate::compression::stream::CompressedViewer;
use crate::error::{BadRequest, Refusal};
use crate::request::{EventsRequest, ticket};
use crate::run_info::run_info;
use crate::share::{Share, Shares};
use crate::sight::{Transport, Visitor};
use crate::tickets::{self, Tickets};
use crate::viewer::{Present, Viewer, ViewerContext};
use crate::{assets, connection, websocket};

/// What requests are answered with.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Lets in who has a token.
    pub gate: Gate,
    /// How many streams each may have.
    pub shares: Shares,
    /// Gives out tickets.
    pub tickets: Tickets,
    /// What viewers need.
    pub viewers: Arc<ViewerContext>,
    /// Who may read.
    pub cors: Cors,
    /// The live page.
    pub page: assets::Page,
    /// How long a new viewer waits for Redis before its stream begins without knowing.
    pub open_wait: Duration,
    /// How streams may be compressed.
    pub encodings: Encodings,
}

impl Routes {
    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (head, body) = request.into_parts();
        let mut response = match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, _) => {
                self.get(&head).await.unwrap_or_else(|refusal| self.refuse(refusal))
            }
            (&Method::OPTIONS, _) => allowed(StatusCode::NO_CONTENT, empty()),
            (&Method::POST, tickets::PATH) => {
                self.tickets.issue(&head, body).await.unwrap_or_else(|refusal| self.refuse(refusal))
            }
            _ => {
                let (parts, body) = problem(StatusCode::METHOD_NOT_ALLOWED, "use GET").into_parts();
                let mut response = allowed(StatusCode::METHOD_NOT_ALLOWED, body);
                response.headers_mut().extend(parts.headers);
                response
            }
        };
        self.cors.allow(&head.headers, &mut response);
        response
    }

    async fn get(&self, head: &Parts) -> Result<Response<Body>, Refusal> {
        let path = head.uri.path();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match segments.as_slice() {
            [""] | ["runs", _] => Ok(self.page.answer()),
            ["assets", name] => Ok(assets::file(name).unwrap_or_else(|| not_found(path))),
            ["v1", "runs", run] => {
                let (run, access) = self.admit(run, head).await?;
                // It tells of all channels.
                access.all_channels()?;
                Ok(self.run(&run).await)
            }
            ["v1", "runs", run, "events"] => {
                let (run, access) = self.admit(run, head).await?;
                let request = EventsRequest::parse(run, &narrowed(head, &access)?, &head.headers)?;
                let mut response = self.events(request, head, &access).await?;
                if !self.encodings.is_empty() {
                    response.headers_mut().append(VARY, HeaderValue::from(ACCEPT_ENCODING));
                }
                Ok(response)
            }
            ["v1", "runs", run, "ws"] => {
                let (run, access) = self.admit(run, head).await?;
                let request = EventsRequest::parse(run, &narrowed(head, &access)?, &head.headers)?;
                let share = self.share(&access)?;
                Ok(self.socket(request, head, access.lease(), share).await)
            }
            _ => Ok(not_found(path)),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        if let Refusal::Denied(denied) = refusal {
            self.viewers.metrics.deny(denied);
        }
        refusal.answer()
    }

    /// Lets in who may view the run, judged by its name alone: nobody has looked yet whether it exists.
    async fn admit(&self, run: &str, head: &Parts) -> Result<(RunId, Access), Refusal> {
        let ticket = ticket(head.uri.query().unwrap_or_default());
        let access = self.gate.admit_with(&head.method, &head.headers, ticket.as_deref()).await?;
        let run = RunId::new(run).map_err(|error| BadRequest::new("run_id", error))?;
        access.may(Operation::View, &run)?;
        Ok((run, access))
    }

    /// One of the streams that who was let in may have.
    fn share(&self, access: &Access) -> Result<Share, Refusal> {
        self.shares.take(access.holder()).ok_or_else(|| {
            self.viewers.metrics.refused.add(1, &[KeyValue::new("reason", "streams_per_holder")]);
            Refusal::TooManyStreams(self.shares.most())
        })
    }

    #[tracing::instrument(name = "GET /v1/runs/{run_id}", skip(self))]
    async fn run(&self, run: &RunId) -> Response<Body> {
        match run_info(self.viewers.hub.bus(), run).await {
            Ok(Some(info)) => with_header(json(StatusCode::OK, &info), CACHE_CONTROL, "no-store"),
            Ok(None) => problem(
                StatusCode::NOT_FOUND,
                format_args!("nothing is known of run {run}, at least not yet"),
            ),
            Err(error) => {
                tracing::warn!(%run, %error, "could not read a run");
                let response =
                    problem(StatusCode::SERVICE_UNAVAILABLE, "redis cannot be asked now; try again");
                with_header(response, http::header::RETRY_AFTER, "1")
            }
        }
    }

    /// Begins a stream. A viewer who has seen everything of a run that is over gets 204, which is
    /// what makes EventSource stop. An EventSource also stops for good at any error status, so a
    /// Redis that is away is waited for with the stream already begun.
    #[tracing::instrument(name = "GET /v1/runs/{run_id}/events", skip_all, fields(run = %request.run))]
    async fn events(
        &self,
        request: EventsRequest,
        head: &Parts,
        access: &Access,
    ) -> Result<Response<Body>, Refusal> {
        let encoding = self.encodings.choose(&head.headers);
        let can_take_over = head.extensions.get::<CanTakeOver>().is_some() && encoding.is_none();
        // Of many who come at once none is to hold what HTTP needs until its view is open.
        let opens_later = can_take_over && request.cursor().is_none();
        let view = if opens_later { None } else { self.viewers.open(&request, self.open_wait).await };
        if let (Some(view), Some(cursor)) = (&view, request.cursor())
            && view.is_over()
            && cursor.covers(view.ring().head())
        {
            return Ok(allowed(StatusCode::NO_CONTENT, empty()));
        }
        let (share, lease) = (self.share(access)?, access.lease());
        let transport = if head.version == Version::HTTP_2 { Transport::Http2 } else { Transport::Http1 };
        let visitor = visitor(&request, head, transport);
        let context = self.viewers.clone();
        let present = Present::new(context.clone(), share, visitor);
        if can_take_over {
            let (wait, opening) = (self.open_wait, context.clone());
            let ready = async move {
                let view = if opens_later { opening.open(&request, wait).await } else { view };
                Viewer::new(opening, request, view)
            };
            let then = |viewer, socket| connection::stream(context, viewer, lease, present, socket);
            let mut response = event_stream(empty());
            response.extensions_mut().insert(Takeover::new(ready, then));
            return Ok(response);
        }
        let viewer = Viewer::new(context.clone(), request, view);
        let Some(encoding) = encoding else {
            let frames = stream::unfold(
                (viewer.leased(lease).seen(present.seen()), present),
                |(mut viewer, present)| async {
                    let bytes = viewer.next().await?;
                    Some((Ok::<_, io::Error>(Frame::data(bytes)), (viewer, present)))
                },
            );
            return Ok(event_stream(StreamBody::new(frames).map_err(Into::into).boxed_unsync()));
        };
        let viewer = CompressedViewer::new(context, viewer, lease, present.seen(), encoding);
        let frames = stream::try_unfold(Some((viewer, present)), |state| async {
            let Some((mut viewer, present)) = state else { return Ok(None) };
            Ok::<_, io::Error>(Some(match viewer.next().await? {
                Some(bytes) => (Frame::data(bytes), Some((viewer, present))),
                None => (Frame::data(viewer.finish()), None),
            }))
        });
        let mut response = event_stream(StreamBody::new(frames).map_err(Into::into).boxed_unsync());
        response.headers_mut().insert(CONTENT_ENCODING, encoding.into());
        Ok(response)
    }

    /// Begins a WebSocket. It cannot see a 204: who has seen everything is told the end once more.
    #[tracing::instrument(name = "GET /v1/runs/{run_id}/ws", skip_all, fields(run = %request.run))]
    async fn socket(
        &self,
        request: EventsRequest,
        head: &Parts,
        lease: Option<Arc<Lease>>,
        share: Share,
    ) -> Response<Body> {
        let mut response = match websocket::accept(head, &self.cors) {
            Ok(response) => response,
            Err(refusal) => return *refusal,
        };
        let view = self.viewers.open(&request, self.open_wait).await;
        let context = self.viewers.clone();
        let visitor = visitor(&request, head, Transport::Websocket);
        let viewer = Viewer::new(context.clone(), request, view).leased(lease);
        let present = Present::new(context.clone(), share, visitor);
        response.extensions_mut().insert(Upgrade::new(|io| websocket::stream(context, viewer, present, io)));
        response
    }
}

fn visitor(request: &EventsRequest, head: &Parts, transport: Transport) -> Visitor {
    let client = head.extensions.get::<ClientAddress>().map(|client| client.0);
    Visitor { run: request.run.clone(), client, transport }
}

/// The query, as far as the access goes.
fn narrowed(head: &Parts, access: &Access) -> Result<String, Refusal> {
    Ok(access.narrow(head.uri.query().unwrap_or_default())?)
}

fn allowed(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    with_header(response, ALLOW, "GET, HEAD, OPTIONS")
}

fn with_header(mut response: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn not_found(path: &str) -> Response<Body> {
    let shown: String = path.chars().take(100).collect();
    let detail =
        format_args!("there is nothing at {shown}; a run's events are at /v1/runs/{{run_id}}/events")
            .to_string();
    problem(StatusCode::NOT_FOUND, detail)
}
