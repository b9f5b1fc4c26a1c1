//! One viewer's stream: the past from Redis, then the view's ring, at the viewer's own pace.
//!
//! A viewer has no queue. It is asked for bytes when its socket has room, and takes them from what
//! all viewers of the view share, or, as long as it lies behind that, from the streams. One that is level
//! with its view needs not even be asked: it [sits](crate::row).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runcast_auth::{Denied, Lease};
use runcast_protocol::{Cursor, EventName, Start, sse};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::catch_up::CatchUp;
use crate::drain::{Drain, Farewell};
use crate::hub::Hub;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::past::Past;
use crate::request::{Begin, EventsRequest, Merge};
use crate::ring_reader::RingReader;
use crate::seat::Seated;
use crate::share::Share;
use crate::sight::{Place, Seen, Sight, Sights, Visitor};
use crate::snapshot::Snapshots;
use crate::usher::Usher;
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
    /// A write that makes no progress for so long ends the viewer; zero: never.
    pub write_stall: Duration,
    /// Who sees to those who sit.
    pub usher: Usher,
    /// Where viewers are seen.
    pub sights: Sights,
}

impl ViewerContext {
    /// The view that is asked for; none if it takes longer to open.
    pub async fn open(&self, request: &EventsRequest, wait: Duration) -> Option<Arc<View>> {
        let opening = self.hub.open(&request.run, &request.selection, request.merge);
        tokio::time::timeout(wait, opening).await.ok()
    }
}

/// One viewer.
#[derive(Debug)]
pub struct Viewer {
    context: Arc<ViewerContext>,
    phase: Phase,
    farewell: Farewell,
    said_retry: bool,
    /// How long it may watch; none: as long as it likes.
    lease: Option<Arc<Lease>>,
    /// Where it is seen how far it has come.
    seen: Option<Arc<Seen>>,
}

/// What comes next for a viewer whose connection lets it sit.
#[derive(Debug)]
pub enum Next {
    /// Bytes to send: whole frames or a heartbeat.
    Bytes(Bytes),
    /// It has everything, and may sit until there is more.
    Level,
    /// The stream is over.
    Over,
}

/// Where a viewer stands in its life.
#[derive(Debug)]
pub enum Phase {
    /// The feed does not know yet where the run stands.
    Opening(Box<EventsRequest>),
    /// It has just been told.
    Opened(Box<EventsRequest>, Arc<View>),
    /// The text so far, lane by lane.
    Snapshot(Box<Snapshots>),
    /// Reading what lies before the ring.
    CatchUp(CatchUp),
    /// Reading the ring.
    Live(Live),
    /// It was told that it may not watch any longer.
    Dismissed(Denied),
}

/// What a step of a phase gave. Steps can be cancelled at any await and taken anew.
#[derive(Debug)]
pub enum Step {
    /// Whole frames for the socket.
    Frames(Bytes),
    /// Go on with this phase.
    Enter(Box<Phase>),
    /// Send this and go on with this phase.
    Begin(Box<Phase>, Bytes),
    /// There was nothing, and may be now.
    Idle,
    /// There is nothing for now, and the viewer may sit until there is.
    Level,
    /// Nothing follows.
    Over,
}

impl Viewer {
    /// A viewer whose view is open, or, without one, still to be opened.
    pub fn new(context: Arc<ViewerContext>, request: EventsRequest, view: Option<Arc<View>>) -> Self {
        let request = Box::new(request);
        let phase = match view {
            Some(view) => Phase::Opened(request, view),
            None => Phase::Opening(request),
        };
        let farewell = context.drain.farewell();
        Self { context, phase, farewell, said_retry: false, lease: None, seen: None }
    }

    /// A viewer that sat and reads on as `reader` does.
    pub fn risen(context: Arc<ViewerContext>, past: Past, reader: RingReader) -> Self {
        let farewell = context.drain.farewell();
        let phase = Phase::Live(Live::new(past, reader));
        Self { context, phase, farewell, said_retry: true, lease: None, seen: None }
    }

    /// The same, which is seen.
    #[must_use]
    pub fn seen(mut self, seen: Arc<Seen>) -> Self {
        seen.stands(self.phase.place());
        self.seen = Some(seen);
        self
    }

    /// The same, which may watch as long as the lease lasts. Then it is told why, and its stream is over.
    #[must_use]
    pub fn leased(mut self, lease: Option<Arc<Lease>>) -> Self {
        self.lease = lease;
        self
    }

    /// Why it may not watch any longer, once it was told.
    pub fn dismissed(&self) -> Option<Denied> {
        match self.phase {
            Phase::Dismissed(denied) => Some(denied),
            _ => None,
        }
    }

    /// The next bytes to send, whole frames or a heartbeat; none when the stream is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self.advance(false).await {
            Next::Bytes(bytes) => Some(bytes),
            Next::Level | Next::Over => None,
        }
    }

    /// The same for a viewer whose connection lets it sit.
    pub async fn next_or_level(&mut self) -> Next {
        self.advance(true).await
    }

    /// Has a viewer that is level sit, to be written to as frames come; none if it is not.
    pub fn sit(self, socket: Arc<TcpStream>) -> Option<(Past, Seated)> {
        match self.phase {
            Phase::Live(live) if live.is_level() => Some(live.sit(socket)),
            _ => None,
        }
    }

    /// Where a viewer that is level reads on; none if it is not.
    pub fn place(&self) -> Option<(Past, RingReader)> {
        match &self.phase {
            Phase::Live(live) if live.is_level() => Some(live.place()),
            _ => None,
        }
    }

    async fn advance(&mut self, sits: bool) -> Next {
        if !std::mem::replace(&mut self.said_retry, true) {
            // The beginning of the first event: on a frame of its own some clients see an empty message.
            let mut retry = Vec::new();
            sse::write_retry(&mut retry, self.context.retry);
            return Next::Bytes(retry.into());
        }
        let silence = tokio::time::sleep_until(Instant::now() + self.context.heartbeat);
        tokio::pin!(silence);
        loop {
            let step = tokio::select! {
                biased;
                denied = Lease::end_of(self.lease.as_ref()) => return Next::Bytes(self.dismiss(denied)),
                () = self.farewell.time_to_go() => return Next::Over,
                () = &mut silence => return Next::Bytes(Bytes::from_static(sse::HEARTBEAT)),
                step = self.phase.step(&self.context, sits) => step,
            };
            match step {
                Step::Frames(bytes) => {
                    self.show();
                    return Next::Bytes(self.with_retry(bytes));
                }
                Step::Enter(phase) => {
                    self.phase = *phase;
                    self.show();
                }
                Step::Begin(phase, bytes) => {
                    self.phase = *phase;
                    self.show();
                    return Next::Bytes(self.with_retry(bytes));
                }
                Step::Idle => {}
                Step::Level => return Next::Level,
                Step::Over => return Next::Over,
            }
        }
    }

    fn show(&self) {
        if let Some(seen) = &self.seen {
            seen.stands(self.phase.place());
        }
    }

    /// The last frame for who may not watch any longer. It has the place where the viewer stands, to come
    /// back to with another token.
    fn dismiss(&mut self, denied: Denied) -> Bytes {
        self.context.metrics.deny(denied);
        let mut frame = Vec::new();
        if let Some(cursor) = self.phase.position() {
            sse::write_id(&mut frame, &cursor.to_string());
        }
        sse::write_event(&mut frame, EventName::End, denied.end().as_bytes());
        self.lease = None;
        self.phase = Phase::Dismissed(denied);
        frame.into()
    }

    /// Puts a jittered `retry:` before the first frame after the drain began.
    fn with_retry(&mut self, frames: Bytes) -> Bytes {
        let Some(delay) = self.farewell.retry(self.context.retry) else { return frames };
        let mut with = Vec::with_capacity(frames.len() + 16);
        sse::write_retry(&mut with, delay);
        with.extend_from_slice(&frames);
        with.into()
    }
}

/// Counts a viewer for as long as it is connected.
#[derive(Debug)]
pub struct Present {
    context: Arc<ViewerContext>,
    sight: Sight,
    _share: Share,
}

impl Present {
    /// One more, with its share of what its token may have.
    pub fn new(context: Arc<ViewerContext>, share: Share, visitor: Visitor) -> Self {
        context.metrics.viewers.add(1, &[]);
        let sight = context.sights.see(visitor);
        Self { context, sight, _share: share }
    }

    /// What is seen of it.
    pub fn seen(&self) -> Arc<Seen> {
        self.sight.seen().clone()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.context.metrics.viewers.add(-1, &[]);
    }
}

impl Phase {
    async fn step(&mut self, context: &ViewerContext, sits: bool) -> Step {
        match self {
            Self::Opening(request) => {
                let view = context.hub.open(&request.run, &request.selection, request.merge).await;
                Step::Enter(Box::new(Self::Opened(request.clone(), view)))
            }
            Self::Opened(request, view) => begin(view.clone(), request, context),
            Self::Snapshot(snapshots) => snapshots.step().await,
            Self::CatchUp(catch_up) => catch_up.step().await,
            Self::Live(live) => match live.step() {
                Step::Idle if sits && !context.drain.has_begun() && live.is_level() && live.has_seats() => {
                    Step::Level
                }
                Step::Idle => {
                    live.changed().await;
                    Step::Idle
                }
                step => step,
            },
            Self::Dismissed(_) => Step::Over,
        }
    }

    /// The same, for those who look.
    fn place(&self) -> Place {
        match self {
            Self::Opening(_) | Self::Opened(..) => Place::Opening,
            Self::Snapshot(snapshots) => {
                Place::Past(snapshots.past().view.clone(), snapshots.cursor().clone())
            }
            Self::CatchUp(catch_up) => Place::Past(catch_up.past().view.clone(), catch_up.cursor().clone()),
            Self::Live(live) => {
                let (past, next) = live.stands();
                Place::Live(past.view.clone(), next)
            }
            Self::Dismissed(_) => Place::Level,
        }
    }

    /// Where the viewer stands; none if that is not known yet.
    fn position(&self) -> Option<Cursor> {
        match self {
            Self::Opening(request) | Self::Opened(request, _) => request.cursor().cloned(),
            Self::Snapshot(snapshots) => Some(snapshots.cursor().clone()),
            Self::CatchUp(catch_up) => Some(catch_up.cursor().clone()),
            Self::Live(live) => Some(live.position()),
            Self::Dismissed(_) => None,
        }
    }
}

/// The first phase of a viewer whose view is open, and the frame that comes before it: who skips
/// history is told where it begins, so as to come back there if cut off before the first message.
fn begin(view: Arc<View>, request: &EventsRequest, context: &ViewerContext) -> Step {
    let past = Past { pages: context.hub.pages(&request.run), view, merges: request.merge != Merge::Never };
    let head = past.view.ring().head().clone();
    match &request.begin {
        Begin::After(cursor) => {
            let catch_up = CatchUp::new(past, request.selection.restrict(cursor));
            Step::Enter(Box::new(Phase::CatchUp(catch_up)))
        }
        Begin::Start => Step::Enter(Box::new(Phase::CatchUp(CatchUp::new(past, Cursor::default())))),
        Begin::Now => {
            let frame = start_frame(&head, "now");
            Step::Begin(Box::new(Phase::CatchUp(CatchUp::new(past, head))), frame)
        }
        Begin::Snapshot => {
            let snapshots = Snapshots::new(past, &head, context.snapshot_bytes);
            let frame = start_frame(snapshots.cursor(), "snapshot");
            Step::Begin(Box::new(Phase::Snapshot(Box::new(snapshots))), frame)
        }
    }
}

fn start_frame(cursor: &Cursor, from: &str) -> Bytes {
    encode(cursor, EventName::Start, &json(&Start { from: from.to_owned() })).bytes
}
