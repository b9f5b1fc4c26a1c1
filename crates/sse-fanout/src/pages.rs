//! Pages of streams, read once for all viewers who need them.
//!
//! Viewers behind the ring ask for the page that holds what they lack next. Whoever asks for what is being
//! read waits for the same answer; what was read is kept for a moment; and only so many reads are under way
//! at a time, of one run at most a quarter: Redis sets the rate, whoever many come at once.
//!
//! A feed reads by itself: it waits for nobody here.

mod cache;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use runcast_bus::{Bus, BusError, EntryId, ParsedPage};
use runcast_protocol::merge::{Merged, merge};
use runcast_protocol::{Entry, Lane, RunId, keys};
use runcast_runtime::MessageTraces;
use runcast_runtime::message_traces::{Operation, Subject};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{CatchUpConfig, bytes};
use crate::metrics::Metrics;
use crate::pages::cache::Cache;
use crate::pages::stream::{Answer, Asked, Asking, Stream};
use crate::turns::{RunTurns, Turn, Turns};

/// Where one page is asked for anew by many, because what was read before is too old for them, it is
/// read at most so often.
const AGAIN: Duration = Duration::from_millis(20);

/// A page, and when it was read.
///
/// It may be old, though no older than the time pages are kept. Of the messages in it that does no harm: they
/// have their numbers for ever, and who asks takes only those that the view has passed on already. But
/// that something is *not* in it may have been overtaken: the end by what was appended since, a hole by a
/// failover to a server that still has it. So whoever finds something missing in a page that was read before
/// he asked must ask again, for one that is read from then on; [`SharedReader`](crate::shared_reader) does.
#[derive(Debug)]
pub struct SharedPage {
    /// When the read began: the page tells how things stood then or later.
    pub read_at: Instant,
    /// What was read.
    pub page: ParsedPage,
    merged: OnceLock<Vec<Merged>>,
}

impl SharedPage {
    /// A page whose read began at that time.
    pub fn new(read_at: Instant, page: ParsedPage) -> Self {
        Self { read_at, page, merged: OnceLock::new() }
    }

    /// The page's messages as few as can be, if its stream is `lane`'s alone; made once for all.
    pub fn merged(&self, lane: &Lane) -> &[Merged] {
        self.merged.get_or_init(|| {
            let batches = self.page.batches.iter().filter_map(|parsed| parsed.batch.as_ref());
            let own = batches.filter(|batch| batch.lane == *lane);
            let entries: Vec<Entry> = own.flat_map(|batch| batch.entries.iter().cloned()).collect();
            merge(lane, &entries)
        })
    }
}

/// The pages of all runs.
#[derive(Debug, Clone)]
pub struct Pages {
    shared: Arc<Shared>,
    runs: Arc<Mutex<HashMap<RunId, Weak<RunPages>>>>,
}

/// What all runs share.
#[derive(Debug)]
struct Shared {
    bus: Bus,
    ttl: Duration,
    reads: Turns,
    viewers: Turns,
    cache: Mutex<Cache>,
    metrics: Metrics,
    traces: MessageTraces,
}

/// The pages of one run.
#[derive(Debug)]
pub struct RunPages {
    run: RunId,
    shared: Arc<Shared>,
    reads: RunTurns,
    viewers: RunTurns,
    /// By the streams' keys.
    streams: Mutex<HashMap<String, Stream>>,
}

impl Pages {
    /// Nothing is read yet.
    pub fn new(bus: Bus, config: &CatchUpConfig, metrics: Metrics, traces: MessageTraces) -> Self {
        let &CatchUpConfig { reads, viewers, cache_bytes, cache_ttl } = config;
        let shared = Shared {
            bus,
            ttl: cache_ttl,
            reads: Turns::new(reads),
            viewers: Turns::new(viewers),
            cache: Mutex::new(Cache::new(bytes(cache_bytes))),
            metrics,
            traces,
        };
        Self { shared: Arc::new(shared), runs: Arc::default() }
    }

    /// The pages of a run: the same for all who ask as long as somebody has them.
    pub fn of_run(&self, run: &RunId) -> Arc<RunPages> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = runs.get(run).and_then(Weak::upgrade) {
            return known;
        }
        runs.retain(|_, pages| pages.strong_count() > 0);
        let pages = Arc::new(RunPages {
            run: run.clone(),
            shared: self.shared.clone(),
            reads: self.shared.reads.of_run(),
            viewers: self.shared.viewers.of_run(),
            streams: Mutex::default(),
        });
        runs.insert(run.clone(), Arc::downgrade(&pages));
        pages
    }
}

impl RunPages {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Commands to Redis.
    pub fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    /// Waits until it is a viewer's turn to be worked on. What thousands do while they catch up would
    /// otherwise stand before what the others wait for.
    pub async fn viewers_turn(&self) -> Turn<'_> {
        self.viewers.turn().await
    }

    /// The page of `lane`'s stream that follows `after`; of a stream with one writer perhaps one that begins
    /// before. If it must not have been read before some time, one whose read begins at that time or later.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn page(
        self: &Arc<Self>,
        lane: &Lane,
        after: EntryId,
        not_before: Option<Instant>,
    ) -> Result<Arc<SharedPage>, BusError> {
        let asked = Asked { after, not_before, keep: self.shared.ttl };
        let stream = keys::stream(&self.run, lane);
        let asking = {
            let mut streams = self.streams();
            let known = streams.entry(stream.clone()).or_insert_with(|| Stream::of(lane));
            match known.find(&asked) {
                Some(asking) => asking,
                None => known.ask(&asked, |question| self.clone().read(lane.clone(), stream, question)),
            }
        };
        match asking {
            Asking::Kept(page) => Ok(page),
            Asking::Reading(answer) => answer.await,
        }
    }

    /// Reads a page when it is this run's turn, and keeps it. A task of its own, so that no viewer who is
    /// slow to be woken holds up the others; it ends when nobody waits for it any more.
    fn read(
        self: Arc<Self>,
        lane: Lane,
        stream: String,
        question: stream::Question,
    ) -> futures_util::future::BoxFuture<'static, Answer> {
        let reading = async move {
            if let Some(before) = question.read_before {
                tokio::time::sleep_until(before + AGAIN).await;
            }
            let turn = self.reads.turn().await;
            let read_at = question.begins_now();
            self.shared.metrics.pages.add(1, &[]);
            let (start, count, began) = (question.start, question.count, SystemTime::now());
            let page = self.shared.bus.read_for_all(&self.run, &lane, start, count).await?;
            drop(turn);
            tell_of(&self.shared.traces, &lane, &stream, &page, began);
            let page = Arc::new(SharedPage::new(read_at, page));
            let is_kept = self.streams().get_mut(&stream).is_some_and(|known| known.keep(&question, &page));
            if is_kept {
                let place = (Arc::downgrade(&self), stream, start);
                let out = self.cache().keep(place, read_at, page.page.weight());
                drop_all(out);
            }
            Ok(page)
        };
        let task = AbortOnDropHandle::new(tokio::spawn(reading));
        async { task.await.unwrap_or_else(|error| Err(BusError::Reply(error.to_string()))) }.boxed()
    }

    /// Lets go of what has been kept long enough, of any run.
    pub fn sweep(&self) {
        let out = self.cache().too_old(self.shared.ttl);
        drop_all(out);
    }

    /// Forgets all pages of the run: it begins anew under the same name.
    pub fn forget(&self) {
        self.streams().clear();
    }

    fn let_go(&self, stream: &str, start: EntryId, read_at: Instant) {
        let mut streams = self.streams();
        if let Some(known) = streams.get_mut(stream)
            && known.let_go(start, read_at)
        {
            streams.remove(stream);
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span for what was read, if any of the messages is sampled.
fn tell_of(traces: &MessageTraces, lane: &Lane, stream: &str, page: &ParsedPage, began: SystemTime) {
    let batches = page.batches.iter().filter_map(|parsed| parsed.batch.as_ref());
    let entries = || batches.clone().flat_map(|batch| &batch.entries);
    let sampled = traces.of(entries().map(|entry| &entry.line[..]));
    if !sampled.is_empty() {
        let (channel, stream) = (lane.channel.as_str(), stream.to_owned());
        let subject = Subject { channel, stream, count: Some(entries().count()) };
        drop(traces.begin(Operation::Read, &subject, &sampled, began));
    }
}

/// With the cache not held: a run's own lock is never taken within it.
fn drop_all(places: Vec<cache::Kept>) {
    for place in places {
        if let Some(run) = place.run.upgrade() {
            run.let_go(&place.stream, place.start, place.read_at);
        }
    }
}
