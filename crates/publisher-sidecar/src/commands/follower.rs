//! Follows the control stream, and hands over what is for us.
//!
//! Pub/sub only wakes: what counts is read from the stream. A command is handed over when our word that
//! it is delivered is in Redis, and the stream was then read to its end without an ending of it; so
//! whoever ended it before never finds that it was carried out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runcast_bus::{Bus, BusError, EntryId, Inbox as Wakes, Incoming, Subscriber};
use runcast_protocol::{Ack, Batch, Channel, Lane, Message, MessageType, Sequence, Step, Writer, keys};
use tokio::time::sleep;

use super::desk::Desk;
use super::inbox::{Due, Receiver, control_lane};
use super::router::Router;
use crate::identity::Identity;

/// How often the stream is looked at although nothing woke us: a wake-up can get lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long after Redis refused for good it is asked again: somebody may mend the credentials.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// Entries read at once.
const PAGE: usize = 512;

/// Wake-ups that may wait; they need not be told apart.
const WAKES: usize = 64;

/// See the module's documentation.
pub(crate) struct Follower {
    bus: Bus,
    identity: Identity,
    desk: Arc<Desk>,
    router: Router,
    /// The last entry read of the commands, and of the letters.
    after: (EntryId, EntryId),
}

/// Why the stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Something came.
    Woken,
    /// Nothing did.
    Quiet,
    /// Something may have been missed.
    Anew,
}

impl Follower {
    pub(crate) fn new(bus: &Bus, desk: Arc<Desk>, router: Router) -> Self {
        let identity = desk.publisher().identity().clone();
        Self { bus: bus.clone(), identity, desk, router, after: Default::default() }
    }

    /// Follows for ever. May be dropped at any time.
    pub(crate) async fn run(mut self) {
        // What an earlier sidecar noted and did not send goes first; nobody else adds to it any more.
        self.desk.publisher().claimed(MessageType::Ack).await;
        self.desk.publisher().flush_kind(MessageType::Ack).await;
        // Only now, so that what the agent says does not wait for this connection too.
        let mut wakes = match Subscriber::connect(&self.bus) {
            Ok(subscriber) => subscriber.inbox(WAKES),
            Err(error) => return tracing::error!(%error, "cannot follow the commands"),
        };
        let run = &self.identity.run;
        wakes.subscribe([keys::stream(run, &control_lane()), keys::letters(run)]).await;
        self.read_own_acks().await;
        let mut look = Look::Anew;
        loop {
            let news = self.catch_up(look == Look::Anew).await;
            if news && look == Look::Quiet {
                tracing::info!("a command was in the stream that pub/sub did not bring; subscribing anew");
                wakes.renew();
            }
            self.deliver().await;
            look = wake(&mut wakes).await;
        }
    }

    /// Delivers all there is to deliver.
    async fn deliver(&mut self) {
        loop {
            let due = self.desk.inbox().due(Timestamp::now(), |action| self.router.refusal(action));
            for due in &due {
                match due {
                    Due::Delivered(command) => self.desk.tell(command, Step::Delivered, None, None).await,
                    Due::Rejected(command, reason) => {
                        self.desk.tell(command, Step::Rejected, Some(reason.clone()), None).await;
                    }
                }
            }
            if !due.is_empty() {
                self.desk.publisher().flush_kind(MessageType::Ack).await;
                self.catch_up(false).await;
            }
            let orders = self.desk.inbox().to_hand_over();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                let command = &order.issued.command;
                match self.router.hand_over(&order).await {
                    Ok(receiver) => self.desk.handed_over(command, receiver),
                    Err(reason) => {
                        self.desk.handed_over(command, Receiver::Sidecar);
                        self.desk.tell(command, Step::Rejected, Some(reason), None).await;
                    }
                }
            }
        }
    }

    /// Reads the commands and the letters to their end; returns whether there was anything new.
    async fn catch_up(&mut self, mut anew: bool) -> bool {
        loop {
            let after = if anew { Default::default() } else { self.after };
            let (mut messages, last, end) = self.read_to_end(control_lane(), after.0).await;
            // What stands in a stream counts only as what may stand there: all agents of the run write letters.
            messages.retain(|message| message.writer == Writer::Control);
            let (mut letters, _, letters_end) =
                self.read_to_end(self.identity.lane(Channel::Control), after.1).await;
            letters.retain(|message| message.writer != Writer::Control);
            messages.append(&mut letters);
            let fits = self.desk.take_control(&messages, last, anew);
            if fits || anew {
                if !fits {
                    tracing::warn!(%last, "a part of the control stream is gone; commands in it are not carried out");
                }
                self.after = (end, letters_end);
                return !messages.is_empty();
            }
            // Redis lost the end of the stream in a failover, or its clock went back.
            tracing::warn!(%last, "the control stream stands elsewhere than expected; reading it anew");
            anew = true;
        }
    }

    async fn read_own_acks(&self) {
        let lane = self.identity.lane(Channel::Acks);
        let (messages, _, _) = self.read_to_end(lane.clone(), EntryId::default()).await;
        let own = messages.iter().filter(|message| message.lane() == lane);
        let acks: Vec<Ack> = own.filter_map(|message| message.content.read().ok()).collect();
        self.desk.take_acks(&acks);
    }

    /// All that the stream of `lane` holds after an entry, where the lane stands, and the last entry.
    async fn read_to_end(&self, lane: Lane, mut after: EntryId) -> (Vec<Message>, Sequence, EntryId) {
        let mut messages = Vec::new();
        loop {
            let page = self.ask(|| self.bus.read(&self.identity.run, &lane, after, PAGE)).await;
            after = page.end;
            for payload in page.batches {
                match Batch::parse(payload) {
                    Ok(batch) => messages
                        .extend(batch.entries.iter().filter_map(|entry| Message::parse(&entry.line).ok())),
                    Err(error) => tracing::warn!(%error, %lane, "an entry cannot be read; left out"),
                }
            }
            if page.is_last {
                return (messages, page.lane.map_or(Sequence::NONE, |lane| lane.last), after);
            }
        }
    }

    /// Asks Redis until it answers.
    async fn ask<T, F: Future<Output = Result<T, BusError>>>(&self, attempt: impl Fn() -> F) -> T {
        let gate = self.desk.publisher().gate();
        let mut told = false;
        loop {
            let leave = gate.pass().await;
            match attempt().await {
                Ok(answer) => {
                    leave.succeeded();
                    return answer;
                }
                Err(error) if error.is_transient() => {
                    leave.failed();
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "cannot read the commands; trying until it succeeds");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    // It is there, and says something.
                    leave.succeeded();
                    tracing::error!(%error, "redis refuses to show the commands; trying again every 5 s");
                    sleep(REFUSED_RETRY).await;
                }
            }
        }
    }
}

async fn wake(wakes: &mut Wakes) -> Look {
    let mut look = tokio::select! {
        incoming = wakes.next() => of(&incoming),
        () = sleep(LOOK_EVERY) => Look::Quiet,
    };
    while let Some(incoming) = wakes.try_next() {
        look = if look == Look::Anew { look } else { of(&incoming) };
    }
    look
}

fn of(incoming: &Incoming) -> Look {
    match incoming {
        Incoming::Missed => Look::Anew,
        Incoming::Payload(_) => Look::Woken,
    }
}
