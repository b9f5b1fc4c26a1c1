//! Sampled messages on their way through the fan-out, and the moment when the first viewer of a view gets them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::SpanContext;
use runcast_protocol::{Entry, Lane, RunId, keys};
use runcast_runtime::MessageTraces;
use runcast_runtime::message_traces::{MessageSpan, Operation, Subject};

/// Batches of a view that may wait for a first viewer; of more than that the oldest are not told of.
const WAITING: usize = 16;

/// Nothing waits.
const NONE: u64 = u64::MAX;

/// A batch that holds sampled messages, while it is passed on.
#[derive(Debug)]
pub struct Traced {
    traces: MessageTraces,
    subject: Subject,
    receive: MessageSpan,
}

impl Traced {
    /// The batch, if any of its messages is sampled.
    pub fn of(traces: &MessageTraces, run: &RunId, lane: &Lane, entries: &[Entry]) -> Option<Self> {
        let sampled = traces.of(entries.iter().map(|entry| &entry.line[..]));
        if sampled.is_empty() {
            return None;
        }
        let (channel, stream) = (lane.channel.as_str(), keys::stream(run, lane));
        let subject = Subject { channel, stream, count: Some(entries.len()) };
        let receive = traces.begin(Operation::Receive, &subject, &sampled, SystemTime::now())?;
        Some(Self { traces: traces.clone(), subject, receive })
    }

    /// A span that lasts while the batch is encoded for a view.
    pub fn encode(&self) -> Option<MessageSpan> {
        let parent = [self.receive.context()];
        self.traces.begin(Operation::Encode, &self.subject, &parent, SystemTime::now())
    }
}

/// What has been encoded for a view and no viewer has been sent yet.
pub struct Unsent {
    /// The least number of a frame that is waited for.
    least: AtomicU64,
    waiting: Mutex<VecDeque<Waiting>>,
}

struct Waiting {
    /// The batch's last frame.
    frame: u64,
    since: SystemTime,
    traces: MessageTraces,
    subject: Subject,
    parent: SpanContext,
}

impl Default for Unsent {
    fn default() -> Self {
        Self { least: AtomicU64::new(NONE), waiting: Mutex::default() }
    }
}

impl Unsent {
    /// From now on the view's frame of that number, the last of the batch, is waited for.
    pub fn wait_for(&self, frame: u64, batch: &Traced) {
        let mut waiting = self.waiting();
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waiting {
            frame,
            since: SystemTime::now(),
            traces: batch.traces.clone(),
            subject: batch.subject.clone(),
            parent: batch.receive.context(),
        });
        self.look_out(&waiting);
    }

    /// A viewer has been sent all frames before `next`. Nearly always nobody waits for that, and then this is a look.
    pub fn sent(&self, next: u64) {
        if self.least.load(Ordering::Relaxed) < next {
            self.tell(next);
        }
    }

    #[cold]
    fn tell(&self, next: u64) {
        let mut waiting = self.waiting();
        while waiting.front().is_some_and(|first| first.frame < next)
            && let Some(Waiting { since, traces, subject, parent, .. }) = waiting.pop_front()
        {
            drop(traces.begin(Operation::Deliver, &subject, &[parent], since));
        }
        self.look_out(&waiting);
    }

    fn look_out(&self, waiting: &VecDeque<Waiting>) {
        self.least.store(waiting.front().map_or(NONE, |first| first.frame), Ordering::Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("least", &self.least).finish_non_exhaustive()
    }
}
