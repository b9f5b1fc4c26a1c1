//! How long calls take and how they end, by OpenTelemetry's semantic conventions for RPC.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Measures all calls of the service that it is laid around.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    duration: Histogram<f64>,
}

impl Calls {
    pub(crate) fn new(duration: Histogram<f64>) -> Self {
        Self { duration }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Measured<S>;

    fn layer(&self, service: S) -> Measured<S> {
        Measured { service, calls: self.clone() }
    }
}

/// A service whose calls are measured.
#[derive(Debug, Clone)]
pub(crate) struct Measured<S> {
    service: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = Call {
            duration: self.calls.duration.clone(),
            method: request.uri().path().trim_start_matches('/').to_owned(),
            begun: Instant::now(),
            // What it is if nobody waits for its end.
            code: Code::Cancelled,
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // Who is refused at once is told in the head.
            call.ends(response.headers());
            Ok(response.map(|body| Body::new(Answer { body, call })))
        })
    }
}

/// An answer on its way; its trailers tell how the call ended.
struct Answer {
    body: Body,
    call: Call,
}

impl http_body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.ends(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A call under way, recorded when it is dropped: however it ends, it ends once.
struct Call {
    duration: Histogram<f64>,
    method: String,
    begun: Instant,
    code: Code,
}

impl Call {
    /// Takes note of the status, if it is there.
    fn ends(&mut self, headers: &http::HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Whatever callers make up is not to become a label.
        let known = self.code != Code::Unimplemented;
        let method = if known { std::mem::take(&mut self.method) } else { "_OTHER".to_owned() };
        let (code, is_ours) = name(self.code);
        let mut labels = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", code),
        ];
        if is_ours {
            labels.push(KeyValue::new("error.type", code));
        }
        self.duration.record(self.begun.elapsed().as_secs_f64(), &labels);
    }
}

/// A code's name in the gRPC specification, and whether the conventions count it as a server's error.
fn name(code: Code) -> (&'static str, bool) {
    match code {
        Code::Ok => ("OK", false),
        Code::Cancelled => ("CANCELLED", false),
        Code::Unknown => ("UNKNOWN", true),
        Code::InvalidArgument => ("INVALID_ARGUMENT", false),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", true),
        Code::NotFound => ("NOT_FOUND", false),
        Code::AlreadyExists => ("ALREADY_EXISTS", false),
        Code::PermissionDenied => ("PERMISSION_DENIED", false),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", false),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", false),
        Code::Aborted => ("ABORTED", false),
        Code::OutOfRange => ("OUT_OF_RANGE", false),
        Code::Unimplemented => ("UNIMPLEMENTED", true),
        Code::Internal => ("INTERNAL", true),
        Code::Unavailable => ("UNAVAILABLE", true),
        Code::DataLoss => ("DATA_LOSS", true),
        Code::Unauthenticated => ("UNAUTHENTICATED", false),
    }
}
