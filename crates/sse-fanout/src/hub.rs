//! All the runs that somebody watches here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runcast_bus::{Bus, Subscriber};
use runcast_protocol::{RunId, Selection};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Feed, FeedContext, OpenView};
use crate::pages::RunPages;
use crate::request::Merge;
use crate::view::View;

/// Requests that may wait for a feed; further viewers wait with theirs.
const REQUESTS: usize = 64;

/// All the runs that somebody watches here: one feed for each, begun with its first viewer.
#[derive(Debug, Clone)]
pub struct Hub {
    feeds: Arc<Feeds>,
    subscriber: Subscriber,
    context: FeedContext,
    /// Where feeds run.
    intake: Handle,
}

/// The feeds by run. They end with it.
#[derive(Debug, Default)]
pub struct Feeds(Mutex<HashMap<RunId, FeedHandle>>);

#[derive(Debug)]
struct FeedHandle {
    requests: mpsc::Sender<OpenView>,
    _task: AbortOnDropHandle<()>,
}

impl Hub {
    /// A hub that watches nothing yet; its feeds run on `intake`.
    pub fn new(subscriber: Subscriber, context: FeedContext, intake: Handle) -> Self {
        Self { feeds: Arc::default(), subscriber, context, intake }
    }

    /// Commands to Redis.
    pub fn bus(&self) -> &Bus {
        &self.context.bus
    }

    /// What viewers of a run read when they are behind.
    pub fn pages(&self, run: &RunId) -> Arc<RunPages> {
        self.context.pages.of_run(run)
    }

    /// Opens a view of a run. Waits until Redis has said where the run stands; whether the run
    /// exists does not matter. The view lives as long as somebody holds it.
    pub async fn open(&self, run: &RunId, selection: &Selection, merge: Merge) -> Arc<View> {
        let (asked, merges) = (Instant::now(), merge == Merge::Always);
        loop {
            let (reply, view) = oneshot::channel();
            let request = OpenView { selection: selection.clone(), merges, asked, reply };
            // A feed that takes its leave at this moment drops the request: ask its successor.
            if self.feed(run).send(request).await.is_ok()
                && let Ok(view) = view.await
            {
                return view;
            }
        }
    }

    fn feed(&self, run: &RunId) -> mpsc::Sender<OpenView> {
        let mut feeds = self.feeds.lock();
        if let Some(feed) = feeds.get(run) {
            return feed.requests.clone();
        }
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let inbox = self.subscriber.inbox(self.context.config.inbox);
        let feed = Feed::new(run.clone(), self.context.clone(), Arc::downgrade(&self.feeds), inbox, receiver);
        let task = AbortOnDropHandle::new(self.intake.spawn(feed.run()));
        feeds.insert(run.clone(), FeedHandle { requests: requests.clone(), _task: task });
        requests
    }
}

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, FeedHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a feed go, unless a request waits for it.
    pub(crate) fn close(&self, run: &RunId, requests: &mut mpsc::Receiver<OpenView>) -> bool {
        let mut feeds = self.lock();
        if !requests.is_empty() {
            return false;
        }
        // Whoever holds a sender from before finds it closed and asks for a new feed.
        requests.close();
        // Dropping the handle aborts the task at its next await; it has none left.
        feeds.remove(run);
        true
    }
}
