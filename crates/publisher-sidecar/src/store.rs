//! Where held messages are: in memory, in the journal, or both.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runcast_protocol::{Channel, Json, Message, MessageType, Sequence};

use crate::identity::Identity;
use crate::journal::{Journal, JournalError, Limits, Position, Recovered, Stats};

/// While more bytes than this wait for Redis, a message that is in the journal is not kept in memory
/// as well: an outage must not cost memory.
const PENDING_IN_MEMORY: usize = 1 << 20;

/// The journal, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    journal: Option<Arc<Mutex<Journal>>>,
}

/// A message that is held.
#[derive(Debug)]
pub(crate) enum Held {
    /// Here.
    Memory(Box<Message>),
    /// In the journal only.
    Journal(Position),
}

/// There is no room in the journal now; the message back.
#[derive(Debug)]
pub(crate) struct NoRoom(pub(crate) Box<Message>);

impl Store {
    /// Opens the journal in `folder` and tells what it holds.
    pub(crate) fn open(
        folder: &Path,
        limits: Limits,
        identity: &Identity,
    ) -> Result<(Self, Recovered), JournalError> {
        let (journal, recovered) = Journal::open(folder, limits, &identity.run, &identity.variation)?;
        Ok((Self { journal: Some(Arc::new(Mutex::new(journal))) }, recovered))
    }

    /// Notes a message; from now on it survives the sidecar. `pending` are the bytes that wait for
    /// Redis already.
    pub(crate) fn keep(
        &self,
        channel: Channel,
        message: Box<Message>,
        pending: usize,
    ) -> Result<Held, NoRoom> {
        let Some(mut journal) = self.lock() else { return Ok(Held::Memory(message)) };
        match journal.append(channel, &message.to_line()) {
            Ok(recorded) if pending > PENDING_IN_MEMORY => Ok(Held::Journal(recorded.position)),
            Ok(_) => Ok(Held::Memory(message)),
            Err(JournalError::Full { .. }) => Err(NoRoom(message)),
            Err(error) => {
                // A disk that fails must not stop the agent: what is in memory still gets through.
                tracing::error!(%error, "cannot write to the journal; this message is in memory only");
                Ok(Held::Memory(message))
            }
        }
    }

    /// A message that is held, to be sent.
    pub(crate) fn load(&self, channel: Channel, held: &Held, identity: &Identity) -> Message {
        let position = match held {
            Held::Memory(message) => return (**message).clone(),
            Held::Journal(position) => *position,
        };
        let read = self.lock().map(|journal| journal.read(position));
        match read {
            Some(Ok(line)) => match Message::parse(&line) {
                Ok(message) => return message,
                Err(error) => tracing::error!(%error, "a message in the journal cannot be read"),
            },
            Some(Err(error)) => tracing::error!(%error, "a message in the journal cannot be read"),
            None => tracing::error!("a message is in a journal that is not there"),
        }
        missing(channel, identity)
    }

    /// Notes where a lane stood before this journal's first message of it.
    pub(crate) fn origin(&self, channel: Channel, last: Sequence) -> Result<(), JournalError> {
        self.lock().map_or(Ok(()), |mut journal| journal.origin(channel, last))
    }

    /// Notes that a lane's first `count` messages are safe, and makes room.
    pub(crate) fn safe(&self, channel: Channel, count: u64) {
        if let Some(Err(error)) = self.lock().map(|mut journal| journal.safe(channel, count)) {
            tracing::error!(%error, "cannot note in the journal what is safe");
        }
    }

    /// How the journal stands, if there is one.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.lock().map(|journal| journal.stats())
    }

    // A panic while holding the lock leaves the journal as its last call did.
    fn lock(&self) -> Option<MutexGuard<'_, Journal>> {
        Some(self.journal.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Stands in a lane for a message that the disk lost: numbers must go on without a hole.
fn missing(channel: Channel, identity: &Identity) -> Message {
    let kind = channel.message_type();
    let content = if kind == MessageType::Output { Json::string("") } else { Json::of(&()) };
    let metadata = Json::of(&serde_json::json!({"gap": {"reason": "journal damaged"}}));
    crate::draft::Draft::now(kind, content, metadata).into_message(identity)
}
