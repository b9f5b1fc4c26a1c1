//! A run's feed: one task that takes in what the run says and passes it on to the run's views,
//! each message once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runcast_bus::{Bus, BusError, Inbox, Incoming, LaneState};
use runcast_protocol::{
    Batch, Channel, Entry, Gap, Lane, Placement, RunId, RunState, Selection, Sequence, VariationId, Writer,
    keys,
};
use runcast_runtime::MessageTraces;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::archived::Archived;
use crate::config::FeedConfig;
use crate::hub::Feeds;
use crate::metrics::Metrics;
use crate::pages::{Pages, RunPages};
use crate::ring::RingLimits;
use crate::run_info::read_state;
use crate::traced::Traced;
use crate::tracker::Tracker;
use crate::view::View;

mod catching_up;
mod past;

/// Checks in a row that must find pub/sub deaf before the subscriptions are made anew.
const DEAF_CHECKS: u32 = 2;

/// Batches that are taken in before viewers see any of them, at most.
const BURST: usize = 32;

/// Asks a feed for a view of its run.
#[derive(Debug)]
pub struct OpenView {
    /// What the viewer chose.
    pub selection: Selection,
    /// Whether what comes together is to be merged.
    pub merges: bool,
    /// When the viewer asked for it.
    pub asked: Instant,
    /// Gets the view once the feed knows where the run stands.
    pub reply: oneshot::Sender<Arc<View>>,
}

/// What a feed needs from its service.
#[derive(Debug, Clone)]
pub struct FeedContext {
    /// Commands to Redis.
    pub bus: Bus,
    /// What viewers read when they are behind.
    pub pages: Pages,
    /// How feeds behave.
    pub config: FeedConfig,
    /// How much a view's ring holds.
    pub ring: RingLimits,
    /// Where feeds are counted.
    pub metrics: Metrics,
    /// What tells of messages that are sampled.
    pub traces: MessageTraces,
}

/// The state of a feed's task.
pub struct Feed {
    run: RunId,
    context: FeedContext,
    pages: Arc<RunPages>,
    feeds: Weak<Feeds>,
    inbox: Inbox,
    requests: mpsc::Receiver<OpenView>,
    tracker: Tracker,
    state: RunState,
    archived: Archived,
    /// Channels that some view asked for, and status, which tells of variations and of the end.
    channels: BTreeSet<Channel>,
    views: Vec<Arc<View>>,
    /// Whether a view may have come to its end.
    may_be_over: bool,
    /// Whether pub/sub brought anything since the last periodic check.
    heard: bool,
    /// Periodic checks in a row that found messages of which pub/sub had brought none.
    deaf: u32,
    /// When Redis was last asked where the run stands, and said it.
    checked: Option<Instant>,
    /// The times that messages bear which viewers have not been handed yet, one of each batch.
    fresh: Vec<Timestamp>,
    idle_since: Instant,
}

impl Feed {
    /// A feed that nobody has asked anything yet.
    pub fn new(
        run: RunId,
        context: FeedContext,
        feeds: Weak<Feeds>,
        inbox: Inbox,
        requests: mpsc::Receiver<OpenView>,
    ) -> Self {
        Self {
            pages: context.pages.of_run(&run),
            run,
            context,
            feeds,
            inbox,
            requests,
            tracker: Tracker::default(),
            state: RunState::default(),
            archived: Archived::default(),
            channels: [Channel::Status].into(),
            views: Vec::new(),
            may_be_over: false,
            heard: false,
            deaf: 0,
            checked: None,
            fresh: Vec::new(),
            idle_since: Instant::now(),
        }
    }

    /// Serves the run's views until nobody has watched for the linger time.
    pub async fn run(mut self) {
        let mut check = tokio::time::interval(self.context.config.check_interval);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.context.metrics.feeds.add(1, &[]);
        loop {
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => self.open(request).await,
                incoming = self.inbox.next() => {
                    self.take_in(incoming).await;
                    self.take_in_more().await;
                }
                past = self.archived.answer() => self.look_again(past).await,
                _ = check.tick() => {
                    self.pages.sweep();
                    if self.is_idle() && self.leave() {
                        break;
                    }
                    self.check().await;
                    self.listen_closely();
                }
            }
            self.catch_up().await;
            self.settle().await;
            self.flush();
        }
        self.context.metrics.feeds.add(-1, &[]);
        tracing::debug!(run = %self.run, "feed closed: nobody watches");
    }

    async fn open(&mut self, OpenView { selection, merges, asked, reply }: OpenView) {
        if self.archived.known().is_some() && self.checked.is_none_or(|checked| checked < asked) {
            // It may have begun anew. Of many newcomers who come at once only the first has to ask.
            self.check().await;
        }
        let view = match self.views.iter().find(|view| view.serves(&selection, merges)) {
            Some(view) => view.clone(),
            None => self.add_view(selection, merges).await,
        };
        // A viewer that is gone already leaves its view to the next tick.
        let _ = reply.send(view);
    }

    async fn add_view(&mut self, selection: Selection, merges: bool) -> Arc<View> {
        self.channels.extend(selection.channels());
        let named: Vec<_> = selection.variations().into_iter().flatten().cloned().collect();
        self.subscribe(&named).await;
        // Where the run stands must be known before a viewer can be told what lies in the past.
        let mut pause = Duration::from_millis(50);
        let lanes = loop {
            match self.refresh().await {
                Ok(lanes) => break lanes,
                Err(error) => {
                    tracing::debug!(run = %self.run, %error, "waiting for redis before opening a view");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        };
        if lanes.is_empty() {
            self.look_back().await;
        }
        let head = self.tracker.cursor(|lane| selection.has_lane(lane));
        let view = Arc::new(View::new(selection, head, self.context.ring).merging(merges));
        self.views.push(view.clone());
        self.may_be_over = true;
        self.catch_up().await;
        self.settle().await;
        view
    }

    /// Subscribes to what the views ask for: the channels of the run, and of the known and the
    /// named variations.
    async fn subscribe(&mut self, named: &[VariationId]) {
        let known: BTreeSet<_> = self.state.variations().keys().chain(named).collect();
        let lanes = self.channels.iter().flat_map(|&channel| {
            let own = known.iter().map(move |variation| Lane::of(channel, variation));
            let shared = Lane { channel, writer: Writer::Control };
            own.chain((!channel.has_one_writer()).then_some(shared))
        });
        let channels: BTreeSet<_> = lanes.map(|lane| keys::stream(&self.run, &lane)).collect();
        self.inbox.subscribe(channels).await;
    }

    /// Asks Redis where the lanes stand, and returns it: follows new ones, and learns which are behind.
    async fn refresh(&mut self) -> Result<BTreeMap<Lane, LaneState>, BusError> {
        let (mut known, asked) = (self.state.variations().len(), Instant::now());
        let mut lanes = self.context.bus.lanes(&self.run).await?;
        self.checked = Some(asked);
        if self.archived.is_another_than(&lanes) {
            self.begin_anew();
            known = 0;
        }
        loop {
            let is_new = |lane: &Lane| lane.channel == Channel::Status && !self.tracker.follows(lane);
            if lanes.keys().any(is_new) {
                // What a lane said before it is followed counts for the state as well: read after the positions, or
                // what is said in between would belong to neither.
                let before =
                    self.archived.known().map_or_else(RunState::default, |past| RunState::recalled(&past));
                self.state = read_state(&self.context.bus, &self.run, before).await?;
                self.look_for_lost_states(&lanes);
                self.may_be_over = true;
            }
            for variation in lanes.keys().filter_map(|lane| lane.writer.variation()) {
                self.state.learn(variation);
            }
            if self.state.variations().len() <= known {
                break;
            }
            // Positions count only if they are read after the subscription was made.
            known = self.state.variations().len();
            self.subscribe(&[]).await;
            lanes = self.context.bus.lanes(&self.run).await?;
        }
        for (lane, at) in &lanes {
            if self.channels.contains(&lane.channel) && !self.tracker.follows(lane) {
                // For the views there are it begins now; for one that is being opened, what is
                // there already is the past, which its viewers read by themselves.
                let seen = self.views.iter().any(|view| view.selection().has_lane(lane));
                self.tracker.follow(lane.clone(), if seen { Sequence::NONE } else { at.last });
            }
            self.tracker.learn(lane, at.last);
        }
        Ok(lanes)
    }

    async fn take_in(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Payload(payload) => self.deliver(payload).await,
            Incoming::Missed => self.check().await,
        }
    }

    /// Takes in what came together with what was just taken in, for viewers to get in one write. Not so much that
    /// they would fall out of their rings meanwhile.
    async fn take_in_more(&mut self) {
        for _ in 0..BURST {
            let Some(incoming) = self.inbox.try_next() else { break };
            self.take_in(incoming).await;
        }
    }

    fn flush(&mut self) {
        for view in &self.views {
            view.flush();
        }
        if !self.fresh.is_empty() {
            let now = Timestamp::now();
            for time in self.fresh.drain(..) {
                let latency = now.duration_since(time).as_secs_f64().max(0.0);
                self.context.metrics.latency.record(latency, &[]);
            }
        }
    }

    /// A subscription can be dead without anybody noticing, e.g. after a slot moved away and back
    /// between two looks at the topology: if messages are there and none of them was heard, again
    /// and again, the subscriptions are made anew.
    fn listen_closely(&mut self) {
        let deaf = !std::mem::take(&mut self.heard) && self.tracker.is_behind();
        self.deaf = if deaf { self.deaf + 1 } else { 0 };
        if self.deaf == DEAF_CHECKS {
            self.deaf = 0;
            self.inbox.renew();
        }
    }

    async fn deliver(&mut self, payload: Bytes) {
        self.heard = true;
        let batch = match Batch::parse(payload) {
            Ok(batch) => batch,
            Err(error) => {
                self.context.metrics.malformed.add(1, &[]);
                return tracing::debug!(run = %self.run, %error, "payload is not a batch");
            }
        };
        if is_command(&batch.lane) && self.tracker.follows(&batch.lane) {
            // Only the stream counts: Redis keeps agents from writing there, but it cannot keep them from
            // publishing a made-up command on a channel of their own.
            return self.tracker.learn(&batch.lane, batch.last());
        }
        match self.tracker.offer(&batch) {
            Some(Placement::Next(entries)) => {
                self.fresh.extend(entries.first().and_then(Entry::time));
                self.pass_on(&batch.lane, entries);
            }
            Some(Placement::Duplicate) => {
                self.context.metrics.duplicates.add(1, &[]);
                if self.archived.known().is_some() {
                    // Perhaps of another run of that name.
                    self.check().await;
                }
            }
            Some(Placement::Ahead) => {}
            // A lane that begins: if Redis cannot be asked now, the next check finds it.
            None => self.check().await,
        }
    }

    async fn check(&mut self) {
        match self.refresh().await {
            // Who keeps the archive may have been away, or busy.
            Ok(lanes) if lanes.is_empty() && self.tracker.is_empty() && !self.views.is_empty() => {
                self.archived.ask(&self.context.bus, &self.run);
            }
            Ok(lanes) => self.look_for_lost_states(&lanes),
            Err(error) => tracing::debug!(run = %self.run, %error, "could not check the lanes"),
        }
        self.may_be_over = true;
    }

    fn apply(&mut self, lane: &Lane, entries: &[Entry]) {
        self.may_be_over |= self.state.apply(lane, entries);
    }

    fn pass_on(&mut self, lane: &Lane, entries: &[Entry]) {
        if lane.channel == Channel::Status {
            self.apply(lane, entries);
        }
        self.reopen(lane);
        self.context.metrics.messages.add(entries.len() as u64, &[]);
        let traced = Traced::of(&self.context.traces, &self.run, lane, entries);
        for view in self.views.iter().filter(|view| view.selection().has_lane(lane)) {
            match &traced {
                None => view.push(lane, entries),
                Some(batch) => view.push_traced(lane, entries, batch),
            }
        }
    }

    fn pass_on_gap(&mut self, gap: &Gap) {
        tracing::warn!(run = %self.run, lane = %gap.lane, first = %gap.first, last = %gap.last, reason = ?gap.reason, "messages are gone");
        self.context.metrics.gaps.add(1, &[]);
        self.context.metrics.lost.add(gap.last.get() + 1 - gap.first.get(), &[]);
        self.reopen(&gap.lane);
        for view in self.views.iter().filter(|view| view.selection().has_lane(&gap.lane)) {
            view.push_gap(gap);
        }
    }

    /// Forgets the views that had ended and whose run goes on after all: a view that is over gets
    /// nothing more, whoever comes back gets a new one.
    fn reopen(&mut self, lane: &Lane) {
        self.views.retain(|view| !(view.is_over() && view.selection().has_lane(lane)));
    }

    fn is_idle(&mut self) -> bool {
        self.views.retain(|view| Arc::strong_count(view) > 1);
        if !self.views.is_empty() {
            self.idle_since = Instant::now();
        }
        self.idle_since.elapsed() >= self.context.config.linger
    }

    /// Takes leave of the hub, unless somebody has just asked for a view.
    fn leave(&mut self) -> bool {
        self.feeds.upgrade().is_none_or(|feeds| feeds.close(&self.run, &mut self.requests))
    }
}

/// Whether a lane is that of the control-plane's commands.
fn is_command(lane: &Lane) -> bool {
    lane.channel == Channel::Control && lane.writer == Writer::Control
}
