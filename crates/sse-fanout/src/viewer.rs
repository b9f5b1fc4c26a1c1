//! One viewer's stream: the past from Redis, then the view's ring, at the viewer's own pace.
//!
//! A viewer has no queue. It is asked for bytes when its socket has room, and takes them from what
//! all viewers of the view share, or, as long as it lies behind that, from the streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runcast_protocol::{Cursor, EventName, Start, sse};
use tokio::time::Instant;

use crate::catch_up::CatchUp;
use crate::drain::{Drain, Farewell};
use crate::hub::Hub;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::past::Past;
use crate::request::{Begin, EventsRequest, Merge};
use crate::snapshot::Snapshots;
use crate::view::{View, encode, json};

/// What viewers need from their service.
#[derive(Debug, Clone)]
pub struct ViewerContext {
    /// Where views come from.
    pub hub: Hub,
    /// After so much silence a heartbeat is sent.
    pub heartbeat: Duration,
    /// The reconnection delay that clients are told.
    pub retry: Duration,
    /// Most bytes of text in one snapshot event.
    pub snapshot_bytes: usize,
    /// Tells when to let viewers go.
    pub drain: Drain,
    /// Where viewers and frames are counted.
    pub metrics: Metrics,
}

/// One viewer.
#[derive(Debug)]
pub struct Viewer {
    context: ViewerContext,
    request: EventsRequest,
    phase: Phase,
    farewell: Farewell,
    said_retry: bool,
}

/// Where a viewer stands in its life.
#[derive(Debug)]
pub enum Phase {
    /// The feed does not know yet where the run stands.
    Opening,
    /// It has just been told.
    Opened(Arc<View>),
    /// The text so far, lane by lane.
    Snapshot(Snapshots),
    /// Reading what lies before the ring.
    CatchUp(CatchUp),
    /// Reading the ring.
    Live(Live),
}

/// What a step of a phase gave. Steps can be cancelled at any await and taken anew.
#[derive(Debug)]
pub enum Step {
    /// Whole frames for the socket.
    Frames(Bytes),
    /// Go on with this phase.
    Enter(Box<Phase>),
    /// The view is open.
    Opened(Arc<View>),
    /// Nothing follows.
    Over,
}

impl Viewer {
    /// A viewer whose view is open, or, without one, still to be opened.
    pub fn new(context: ViewerContext, request: EventsRequest, view: Option<Arc<View>>) -> Self {
        context.metrics.viewers.add(1, &[]);
        let phase = view.map_or(Phase::Opening, Phase::Opened);
        let farewell = context.drain.farewell();
        Self { context, request, phase, farewell, said_retry: false }
    }

    /// The next bytes to send, whole frames or a heartbeat; none when the stream is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        let silence = tokio::time::sleep_until(Instant::now() + self.context.heartbeat);
        tokio::pin!(silence);
        loop {
            let step = tokio::select! {
                biased;
                () = self.farewell.time_to_go() => return None,
                () = &mut silence => return Some(Bytes::from_static(sse::HEARTBEAT)),
                step = self.phase.step(&self.context, &self.request) => step,
            };
            match step {
                Step::Frames(bytes) => return Some(self.with_retry(bytes)),
                Step::Enter(phase) => self.phase = *phase,
                Step::Opened(view) => {
                    let (phase, frame) = begin(view, &self.request, &self.context);
                    self.phase = phase;
                    if let Some(frame) = frame {
                        return Some(self.with_retry(frame));
                    }
                }
                Step::Over => return None,
            }
        }
    }

    /// Puts `retry:` before the first frame, and a jittered one before the first after the drain
    /// began. It rides on a real event: on a frame of its own some clients see an empty message.
    fn with_retry(&mut self, frames: Bytes) -> Bytes {
        let first = !std::mem::replace(&mut self.said_retry, true);
        let Some(delay) = self.farewell.retry(self.context.retry).or(first.then_some(self.context.retry))
        else {
            return frames;
        };
        let mut with = Vec::with_capacity(frames.len() + 16);
        sse::write_retry(&mut with, delay);
        with.extend_from_slice(&frames);
        with.into()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.context.metrics.viewers.add(-1, &[]);
    }
}

impl Phase {
    async fn step(&mut self, context: &ViewerContext, request: &EventsRequest) -> Step {
        match self {
            Self::Opening => {
                Step::Opened(context.hub.open(&request.run, &request.selection, request.merge).await)
            }
            Self::Opened(view) => Step::Opened(view.clone()),
            Self::Snapshot(snapshots) => snapshots.step().await,
            Self::CatchUp(catch_up) => catch_up.step().await,
            Self::Live(live) => live.step().await,
        }
    }
}

/// The first phase of a viewer whose view is open, and the frame that comes before it: who skips
/// history is told where it begins, so as to come back there if cut off before the first message.
fn begin(view: Arc<View>, request: &EventsRequest, context: &ViewerContext) -> (Phase, Option<Bytes>) {
    let past = Past { pages: context.hub.pages(&request.run), view, merges: request.merge != Merge::Never };
    let head = past.view.ring().head().clone();
    match &request.begin {
        Begin::After(cursor) => {
            (Phase::CatchUp(CatchUp::new(past, request.selection.restrict(cursor))), None)
        }
        Begin::Start => (Phase::CatchUp(CatchUp::new(past, Cursor::default())), None),
        Begin::Now => {
            let frame = start_frame(&head, "now");
            (Phase::CatchUp(CatchUp::new(past, head)), Some(frame))
        }
        Begin::Snapshot => {
            let snapshots = Snapshots::new(past, &head, context.snapshot_bytes);
            let frame = start_frame(snapshots.cursor(), "snapshot");
            (Phase::Snapshot(snapshots), Some(frame))
        }
    }
}

fn start_frame(cursor: &Cursor, from: &str) -> Bytes {
    encode(cursor, EventName::Start, &json(&Start { from: from.to_owned() })).bytes
}
