//! The inbox as the follower, the local API and the agent's keeper share it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runcast_protocol::{Ack, Action, CommandId, Json, Message, MessageType, Sequence, State, Step};
use serde_json::Value;
use tokio::sync::watch;

use super::inbox::{Inbox, Receiver, Verdict, control_lane};
use crate::draft::Draft;
use crate::publisher::{PublishError, Publisher};

/// Where commands lie until they have ended.
#[derive(Debug)]
pub(crate) struct Desk {
    inbox: Mutex<Inbox>,
    /// Bumped with every change.
    changed: watch::Sender<()>,
    /// Whether the control stream was read to its end once.
    known: watch::Sender<bool>,
    /// Held from judging a step to noting that it was said, so that of two only one is first.
    saying: tokio::sync::Mutex<()>,
    publisher: Publisher,
}

/// Why a step is not said.
#[derive(Debug)]
pub(crate) enum NotSaid {
    /// There is no such command.
    Unknown,
    /// It does not follow from the step that the command is at.
    Conflict(Step, Option<String>),
    /// It cannot be published.
    Unpublished(PublishError),
}

impl Desk {
    pub(crate) fn new(publisher: Publisher) -> Self {
        let inbox = Mutex::new(Inbox::new(publisher.identity().variation.clone()));
        let (changed, known) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { inbox, changed, known, saying: tokio::sync::Mutex::new(()), publisher }
    }

    /// The inbox as it is now. Not to be held while waiting.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic while holding the lock leaves the inbox usable: what is missing is read again.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever the inbox does.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until the control stream was read to its end once.
    pub(crate) async fn until_known(&self) {
        // The sender lives in self.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// Whether it was.
    pub(crate) fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// Takes what the control stream holds, from its beginning (`anew`) or from where it was read to.
    /// Redis says that `control/@control` stands at `last`; returns whether that fits.
    pub(crate) fn take_control(&self, messages: &[Message], last: Sequence, anew: bool) -> bool {
        let mut inbox = self.inbox();
        if anew {
            inbox.begin_anew();
        }
        for message in messages {
            inbox.take_control(message);
        }
        let fits = inbox.position().position(&control_lane()) == last;
        if anew {
            // What is missing now is gone for good.
            inbox.set_control_position(last);
        }
        drop(inbox);
        if fits || anew {
            self.known.send_replace(true);
        }
        if !messages.is_empty() || anew {
            self.changed.send_replace(());
        }
        fits
    }

    /// Takes our own acks of an earlier life.
    pub(crate) fn take_acks(&self, acks: &[Ack]) {
        let mut inbox = self.inbox();
        acks.iter().for_each(|ack| inbox.take_ack(ack));
    }

    /// Notes that a command is handed over.
    pub(crate) fn handed_over(&self, command: &CommandId, receiver: Receiver) {
        self.inbox().handed_over(command, receiver);
        self.changed.send_replace(());
    }

    /// Says how far a command has come; a repeat is no mistake. Once this returns it is on its way to
    /// Redis. Nothing is half done if it is dropped before.
    ///
    /// # Errors
    /// [`NotSaid`]; nothing was changed.
    pub(crate) async fn say(&self, ack: Ack) -> Result<(), NotSaid> {
        let _turn = self.saying.lock().await;
        match self.inbox().judge(&ack.command, ack.step) {
            Verdict::New => {}
            Verdict::Repeat => return Ok(()),
            Verdict::Unknown => return Err(NotSaid::Unknown),
            Verdict::Conflict(step, reason) => return Err(NotSaid::Conflict(step, reason)),
        }
        let (action, metadata) = self.action_and_metadata(&ack.command);
        let draft = Draft::now(MessageType::Ack, Json::of(&ack), metadata);
        self.publisher.publish(draft).await.map_err(NotSaid::Unpublished)?;
        self.inbox().take_ack(&ack);
        self.publisher.metrics().command(action, ack.step);
        self.changed.send_replace(());
        Ok(())
    }

    fn action_and_metadata(&self, command: &CommandId) -> (&'static str, Json) {
        match self.inbox().standing(command).and_then(|standing| standing.order.as_ref()) {
            Some(Ok(order)) => (order.issued.action.name(), order.metadata.clone()),
            _ => ("unknown", Json::empty_object()),
        }
    }

    /// [`Self::say`] where nobody is there to be told of a failure.
    pub(crate) async fn tell(
        &self,
        command: &CommandId,
        step: Step,
        reason: Option<String>,
        result: Option<Value>,
    ) {
        let ack = Ack { command: command.clone(), step, reason, result };
        match self.say(ack).await {
            Ok(()) => tracing::debug!(%command, %step, "command"),
            // It was ended meanwhile: what we have to say comes too late.
            Err(NotSaid::Unknown | NotSaid::Conflict(..)) => {
                tracing::info!(%command, %step, "what became of a command comes after its end");
            }
            Err(NotSaid::Unpublished(error)) => {
                tracing::warn!(%command, %step, %error, "cannot say what became of a command");
            }
        }
    }

    /// Says of all open commands that nothing more will come of them, since the variation ends with
    /// `state`.
    pub(crate) async fn conclude(&self, state: State) {
        let ended = |action: &Action| match action {
            Action::Stop { .. } if state != State::Lost => {
                (Step::Applied, format!("the agent ended: {state}"))
            }
            _ => (Step::Failed, "the agent ended without saying what became of it".to_owned()),
        };
        let last = self.inbox().conclude(ended);
        for (command, step, reason) in last {
            self.tell(&command, step, Some(reason), None).await;
        }
    }

    /// The publisher that the answers go through.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }
}
