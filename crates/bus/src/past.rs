//! What Redis no longer has is asked for through Redis: who reads says what is missing, who keeps the
//! archive lends it in keys that live for a moment. Neither knows the other.
//!
//! A request is only a hint, heard by whoever listens; the answer is a key with a name that follows from
//! the request. So it does not matter who answers, how often it is asked, or by how many.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Expiration, SetOptions, Value};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use runcast_protocol::{Batch, Lane, PastRequest, PastRequestError, PastRun, RunId, Sequence, keys};
use tokio::time::Instant;

use crate::{Bus, BusError, Inbox, Incoming, Subscriber};

/// A request that is not answered is sent again: who heard it may be gone, or nobody did.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How soon an answer is looked for, first and at most; it doubles in between.
const LOOK: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(64));
/// How long nobody else begins what one has taken.
const TAKEN: Duration = Duration::from_secs(2);
/// Requests that may wait for who answers them; those beyond are asked again.
const REQUESTS: usize = 1024;

type Answer<T> = Result<Option<Arc<T>>, BusError>;

/// Something that is being asked for; all who ask for the same at the same time share it.
///
/// Whoever waits may stop at any time and go on later: the time it takes at most is counted from when it
/// was first asked.
#[derive(Clone)]
pub struct Asking<T>(Shared<BoxFuture<'static, Answer<T>>>);

impl<T> fmt::Debug for Asking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

impl<T: Send + Sync> Asking<T> {
    /// What was asked for; none if the archive has none of it, or nobody answered in time. Not to be
    /// called again once it has given something.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn answer(&mut self) -> Answer<T> {
        (&mut self.0).await
    }
}

type Asked<T> = Mutex<HashMap<String, WeakShared<BoxFuture<'static, Answer<T>>>>>;

/// What this process is asking for, by the answers' keys.
#[derive(Default)]
pub(crate) struct AskedPast {
    runs: Asked<PastRun>,
    pages: Asked<Batch>,
    /// Whether it was said already that the past cannot be asked for.
    refused: AtomicBool,
}

impl fmt::Debug for AskedPast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedPast")
    }
}

fn share<T: Send + Sync + 'static>(
    asked: &Asked<T>,
    key: String,
    ask: impl Future<Output = Answer<T>> + Send + 'static,
) -> Asking<T> {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = asked.get(&key).and_then(WeakShared::upgrade) {
        return Asking(known);
    }
    asked.retain(|_, other| other.upgrade().is_some());
    let asking = ask.boxed().shared();
    if let Some(weak) = asking.downgrade() {
        asked.insert(key, weak);
    }
    Asking(asking)
}

impl Bus {
    /// The same, which asks for what Redis no longer has, and waits for so long for each answer. Without
    /// this there is no past: who keeps the archive does not ask itself.
    #[must_use]
    pub fn asking_past(mut self, wait: Duration) -> Self {
        self.past_wait = Some(wait);
        self
    }

    /// Whether it asks for what Redis no longer has.
    pub fn asks_past(&self) -> bool {
        self.past_wait.is_some()
    }

    /// Asks what is archived of a run.
    pub fn past_run(&self, run: &RunId) -> Asking<PastRun> {
        let request = PastRequest::run(run.clone());
        let (key, bus) = (request.key(), self.clone());
        share(&self.asked_past().runs, key, async move {
            let Some(answer) = bus.ask(&request).await? else { return Ok(None) };
            let past = PastRun::parse(&answer);
            Ok(past.inspect_err(|error| complain(&request, error)).ok().map(Arc::new))
        })
    }

    /// Asks for the archived messages of a lane that follow `after`, as many as make a page.
    pub fn past_page(&self, run: &RunId, lane: &Lane, after: Sequence) -> Asking<Batch> {
        let request = PastRequest::page(run.clone(), lane.clone(), after);
        let (key, bus) = (request.key(), self.clone());
        share(&self.asked_past().pages, key, async move {
            let Some(answer) = bus.ask(&request).await? else { return Ok(None) };
            let batch = Batch::parse(answer);
            Ok(batch.inspect_err(|error| complain(&request, error)).ok().map(Arc::new))
        })
    }

    /// The answer to a request; none if it is that there is nothing, or nobody gives one.
    async fn ask(&self, request: &PastRequest) -> Result<Option<Bytes>, BusError> {
        let Some(wait) = self.past_wait else { return Ok(None) };
        match self.ask_for(request, wait).await {
            // Waiting would not help: permissions that date from before there was a past, for one.
            Err(error) if !error.is_transient() => {
                if !self.asked_past().refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(key = request.key(), %error, "the past cannot be asked for");
                }
                Ok(None)
            }
            answer => answer,
        }
    }

    async fn ask_for(&self, request: &PastRequest, wait: Duration) -> Result<Option<Bytes>, BusError> {
        let key = request.key();
        let begun = Instant::now();
        let (mut ask_at, mut pause) = (begun, LOOK.0);
        loop {
            let answer: Option<Bytes> = self.client().await.get(&key).await?;
            if let Some(answer) = answer {
                return Ok(Some(answer).filter(|answer| !answer.is_empty()));
            }
            if begun.elapsed() >= wait {
                tracing::warn!(key, waited = ?wait, "nobody restored what was asked for");
                return Ok(None);
            }
            if Instant::now() >= ask_at {
                if self.client().await.exists::<u64, _>(keys::REPLAY_ALIVE).await? == 0 {
                    return Ok(None);
                }
                self.publish_to(keys::PAST_REQUESTS, request.to_json().into()).await?;
                ask_at = Instant::now() + ASK_AGAIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Says, for `ttl`, that requests are heard: nobody waits for answers otherwise.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn tell_replay_alive(&self, ttl: Duration) -> Result<(), BusError> {
        let ttl = Some(Expiration::PX(millis(ttl)));
        Ok(self.client().await.set(keys::REPLAY_ALIVE, "1", ttl, None, false).await?)
    }

    /// Takes a request, so that no other replica works on it for a moment. False if another has, or the
    /// answer is there.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn take_past(&self, request: &PastRequest) -> Result<bool, BusError> {
        let key = request.key();
        let (expire, only_new) = (Some(Expiration::PX(millis(TAKEN))), Some(SetOptions::NX));
        let client = self.client().await;
        let taken: Option<String> = client.set(keys::taken(&key), "1", expire, only_new, false).await?;
        Ok(taken.is_some() && client.exists::<u64, _>(&key).await? == 0)
    }

    /// Answers a request for `ttl`; empty if there is nothing.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn answer_past(
        &self,
        request: &PastRequest,
        answer: Bytes,
        ttl: Duration,
    ) -> Result<(), BusError> {
        let ttl = Some(Expiration::PX(millis(ttl)));
        Ok(self.client().await.set(request.key(), answer, ttl, None, false).await?)
    }

    /// Takes an answer back before its time, so that it can be asked for anew.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; it goes by itself then.
    pub async fn withdraw_past(&self, request: &PastRequest) -> Result<(), BusError> {
        let key = request.key();
        Ok(self.client().await.unlink(vec![keys::taken(&key), key]).await?)
    }

    /// Publishes, in Cluster mode to those who listen where the channel's slot is.
    pub(crate) async fn publish_to(&self, channel: &str, payload: Bytes) -> Result<(), BusError> {
        let name = if self.is_sharded() { "SPUBLISH" } else { "PUBLISH" };
        let command = CustomCommand::new_static(name, ClusterHash::from(channel), false);
        let _: Value =
            self.client().await.custom(command, vec![Value::from(channel), Value::from(payload)]).await?;
        Ok(())
    }
}

/// Hears what is asked for.
#[derive(Debug)]
pub struct PastRequests(Inbox);

impl PastRequests {
    /// Begins to listen; returns once Redis has confirmed, or cannot be reached: then it hears as soon
    /// as Redis is back.
    pub async fn listen(subscriber: &Subscriber) -> Self {
        let mut inbox = subscriber.inbox(REQUESTS);
        inbox.subscribe([keys::PAST_REQUESTS.to_owned()]).await;
        Self(inbox)
    }

    /// The next request. What is missed is asked again.
    ///
    /// # Errors
    /// [`PastRequestError`] if what was said is no request.
    pub async fn next(&mut self) -> Result<PastRequest, PastRequestError> {
        loop {
            if let Incoming::Payload(payload) = self.0.next().await {
                return PastRequest::parse(&payload);
            }
        }
    }
}

fn complain(request: &PastRequest, error: &dyn fmt::Display) {
    tracing::warn!(key = request.key(), %error, "the answer from the past cannot be read");
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().max(1)).unwrap_or(i64::MAX)
}
