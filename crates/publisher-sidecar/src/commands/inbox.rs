//! What the control stream and our own acks say together: which commands are for us, how far each has
//! come, the configuration they make, and the letters from others.
//!
//! Pure: what was read goes in, what is to be done next comes out. A command is known by its id, so
//! whatever is read or said twice is recognised.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use runcast_protocol::{
    Ack, Action, Channel, CommandId, Cursor, Ended, Lane, Letter, Message, Sequence, Step, VariationId,
    Writer,
};

use super::document::Document;
use super::letters::Letters;
use super::order::{self, Order, Said};

/// Commands that ended are remembered by their ids, the latest so many, for repeats to be recognised.
const REMEMBERED: usize = 16 << 10;

/// How far a command has come.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The last step known.
    pub step: Step,
    /// Why it ended as it did, if that was said.
    pub reason: Option<String>,
    /// The command while it is open; if it cannot be read, why.
    pub order: Option<Result<Arc<Order>, String>>,
    /// Its number; none while only our own ack to it is known.
    sequence: Sequence,
    /// To whom it was handed over in this life of ours.
    handed: Option<Receiver>,
}

/// To whom a command is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The agent, which asks for its commands over the local API.
    Agent,
    /// The sidecar itself, with signals.
    Sidecar,
}

/// What is to be said about a command before anything is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// That it is delivered.
    Delivered(CommandId),
    /// That it is rejected, and why.
    Rejected(CommandId, String),
}

/// Whether a step may be said now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is news.
    New,
    /// It was said before.
    Repeat,
    /// There is no such command.
    Unknown,
    /// It does not follow from the step the command is at.
    Conflict(Step, Option<String>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Inbox {
    me: VariationId,
    commands: HashMap<CommandId, Standing>,
    open: BTreeSet<(Sequence, CommandId)>,
    ended: BTreeSet<(Sequence, CommandId)>,
    /// Commands up to here that are not known have ended, and were forgotten.
    forgotten: Sequence,
    document: Document,
    letters: Letters,
    position: Cursor,
}

impl Inbox {
    /// The empty inbox of a variation.
    pub fn new(me: VariationId) -> Self {
        Self {
            me,
            commands: HashMap::new(),
            open: BTreeSet::new(),
            ended: BTreeSet::new(),
            forgotten: Sequence::NONE,
            document: Document::default(),
            letters: Letters::default(),
            position: Cursor::default(),
        }
    }

    /// The configuration.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// How far each control lane was read.
    pub fn position(&self) -> &Cursor {
        &self.position
    }

    /// A command's standing.
    pub fn standing(&self, command: &CommandId) -> Option<&Standing> {
        self.commands.get(command)
    }

    /// The commands that have not ended, in the order in which they were issued.
    pub fn open(&self) -> impl Iterator<Item = (&CommandId, &Standing)> {
        self.open.iter().filter_map(|(_, id)| Some((id, self.commands.get(id)?)))
    }

    /// How many commands have not ended.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The control stream is about to be read from its beginning again: Redis stands elsewhere than
    /// expected, and may have given numbers out anew. Commands are known by their ids all the same.
    pub fn begin_anew(&mut self) {
        self.document = Document::default();
        self.set_control_position(Sequence::NONE);
    }

    /// Where `control/@control` is taken to have been read to.
    pub fn set_control_position(&mut self, position: Sequence) {
        self.position.set(&control_lane(), position);
    }

    /// A message of a control lane, in the order of the stream.
    pub fn take_control(&mut self, message: &Message) {
        let lane = message.lane();
        if lane.channel != Channel::Control {
            return;
        }
        let news = message.sequence > self.position.position(&lane);
        if news {
            self.position.set(&lane, message.sequence);
        }
        match &lane.writer {
            Writer::Control if message.variation_id == self.me => self.take_decision(message),
            Writer::Variation(from) if news && *from != self.me => {
                let Ok(letter) = message.content.read::<Letter>() else { return };
                if letter.to.as_ref().is_none_or(|to| *to == self.me) {
                    let size = message.content.as_str().len();
                    self.letters.add(lane.clone(), message.sequence, from.clone(), letter, size);
                }
            }
            _ => {}
        }
    }

    fn take_decision(&mut self, message: &Message) {
        match order::read(message) {
            Some(Said::Issued(command, order)) => self.take_issued(command, message.sequence, order),
            Some(Said::Ended(step, ended)) => self.take_ending(step, &ended, message.sequence),
            None => {}
        }
    }

    fn take_issued(&mut self, command: CommandId, sequence: Sequence, order: Result<Arc<Order>, String>) {
        let overruled = self.commands.get(&command);
        let overruled = overruled.is_some_and(|known| matches!(known.step, Step::Expired | Step::Cancelled));
        if let Ok(order) = &order
            && let Action::Config { patch } = &order.issued.action
            && !overruled
        {
            self.document.add(sequence, command.clone(), patch.clone());
        }
        self.enter(command, sequence, order);
    }

    fn enter(&mut self, command: CommandId, sequence: Sequence, order: Result<Arc<Order>, String>) {
        match self.commands.get_mut(&command) {
            Some(known) if known.sequence == Sequence::NONE => {
                known.sequence = sequence;
                if known.step.is_terminal() {
                    self.ended.insert((sequence, command));
                } else {
                    known.order = Some(order);
                    self.open.insert((sequence, command));
                }
            }
            Some(_) => {}
            None if sequence <= self.forgotten => {}
            None => {
                let (step, order) = (Step::Issued, Some(order));
                let standing = Standing { step, reason: None, order, sequence, handed: None };
                self.commands.insert(command.clone(), standing);
                self.open.insert((sequence, command));
            }
        }
        self.forget();
    }

    /// An ending that the control-plane wrote counts, whatever we said: it knew of no other.
    fn take_ending(&mut self, step: Step, ended: &Ended, at: Sequence) {
        let Some(known) = self.commands.get_mut(&ended.command) else { return };
        known.step = step;
        known.reason.clone_from(&ended.reason);
        self.document.remove(&ended.command, at);
        self.close(&ended.command);
    }

    /// What we said: in an earlier life, as the acks stream has it, or just now.
    pub fn take_ack(&mut self, ack: &Ack) {
        match self.commands.get_mut(&ack.command) {
            Some(known) if known.step.is_terminal() => {}
            Some(known) => {
                known.step = ack.step;
                known.reason.clone_from(&ack.reason);
            }
            None => {
                let (step, reason) = (ack.step, ack.reason.clone());
                let standing = Standing { step, reason, order: None, sequence: Sequence::NONE, handed: None };
                self.commands.insert(ack.command.clone(), standing);
            }
        }
        if ack.step.is_terminal() {
            self.close(&ack.command);
        }
    }

    fn close(&mut self, command: &CommandId) {
        let Some(known) = self.commands.get_mut(command) else { return };
        known.order = None;
        if self.open.remove(&(known.sequence, command.clone())) {
            self.ended.insert((known.sequence, command.clone()));
        }
        self.forget();
    }

    fn forget(&mut self) {
        while self.ended.len() > REMEMBERED {
            let Some((sequence, command)) = self.ended.pop_first() else { return };
            self.commands.remove(&command);
            self.forgotten = self.forgotten.max(sequence);
        }
    }

    /// What is to be said now, in the order of the commands. `refuse` says why an action cannot be done
    /// here at all.
    pub fn due(&self, now: Timestamp, refuse: impl Fn(&Action) -> Option<String>) -> Vec<Due> {
        let due = self.open().filter_map(|(id, standing)| {
            let rejected = |reason| Some(Due::Rejected(id.clone(), reason));
            let order = match standing.order.as_ref()? {
                Ok(order) => order,
                Err(reason) => return rejected(reason.clone()),
            };
            if standing.handed.is_some() {
                return None;
            }
            if order.is_late(now) {
                return rejected("its deadline had passed".into());
            }
            match (refuse(&order.issued.action), standing.step) {
                (Some(reason), _) => rejected(reason),
                (None, Step::Issued) => Some(Due::Delivered(id.clone())),
                (None, _) => None,
            }
        });
        due.collect()
    }

    /// The commands that are to be handed over, in their order: said to be delivered, not ended, and not
    /// handed over yet. Only to be asked when that word is in Redis, and the control stream was then
    /// read to its end.
    pub fn to_hand_over(&self) -> Vec<Arc<Order>> {
        let waiting = self.open().filter(|(_, known)| known.handed.is_none() && known.step != Step::Issued);
        waiting.filter_map(|(_, known)| known.order.as_ref()?.as_ref().ok().cloned()).collect()
    }

    /// Notes that a command is handed over.
    pub fn handed_over(&mut self, command: &CommandId, receiver: Receiver) {
        if let Some(known) = self.commands.get_mut(command) {
            known.handed = Some(receiver);
        }
    }

    /// Whether `step` may be said of a command now.
    pub fn judge(&self, command: &CommandId, step: Step) -> Verdict {
        let Some(known) = self.commands.get(command) else { return Verdict::Unknown };
        let conflict = || Verdict::Conflict(known.step, known.reason.clone());
        match (known.step, step) {
            (at, said) if at == said => Verdict::Repeat,
            (_, Step::Issued | Step::Expired | Step::Cancelled) => conflict(),
            // Asked again after its answer got lost.
            (Step::Applied | Step::Failed, Step::Accepted) => Verdict::Repeat,
            (Step::Accepted, Step::Delivered | Step::Rejected) => conflict(),
            (Step::Issued | Step::Delivered | Step::Accepted, _) => Verdict::New,
            _ => conflict(),
        }
    }

    /// The open commands with the agent and the letters, those after the cursor, each in its order.
    pub fn after(&self, cursor: &Cursor) -> Vec<Item> {
        let position = cursor.position(&control_lane());
        let with_agent = self.open().filter(|(_, known)| known.handed == Some(Receiver::Agent));
        let orders = with_agent.filter_map(|(_, known)| known.order.as_ref()?.as_ref().ok());
        let orders = orders.filter(|order| order.sequence > position).cloned().map(Item::Order);
        let gaps = self.letters.gaps(cursor).map(Item::Gap);
        orders.chain(gaps).chain(self.letters.after(cursor).cloned().map(Item::Letter)).collect()
    }

    /// Where somebody begins who wants the open commands, and letters from now on.
    pub fn beginning(&self) -> Cursor {
        let mut cursor = self.position.clone();
        cursor.set(&control_lane(), Sequence::NONE);
        cursor
    }

    /// Whether a command was handed to the agent, now or in an earlier life.
    pub fn is_with_agent(&self, command: &CommandId) -> bool {
        self.commands.get(command).is_some_and(|known| {
            known.handed == Some(Receiver::Agent) || (known.handed.is_none() && known.step != Step::Issued)
        })
    }

    /// What is to be said of each open command when the agent has ended: `ended` says what became of one
    /// that was handed over.
    pub fn conclude(&self, ended: impl Fn(&Action) -> (Step, String)) -> Vec<(CommandId, Step, String)> {
        let last = self.open().map(|(id, known)| match &known.order {
            Some(Ok(order)) if known.handed.is_some() => {
                let (step, reason) = ended(&order.issued.action);
                (id.clone(), step, reason)
            }
            _ => (id.clone(), Step::Rejected, "the agent has ended".to_owned()),
        });
        last.collect()
    }
}

/// What an agent is told.
#[derive(Debug, Clone)]
pub enum Item {
    /// A command.
    Order(Arc<Order>),
    /// A letter.
    Letter(Arc<super::letters::Received>),
    /// Letters that are not kept any more.
    Gap(runcast_protocol::Gap),
}

impl Item {
    /// The lane it is in, and its last number there.
    pub fn position(&self) -> (Lane, Sequence) {
        match self {
            Self::Order(order) => (control_lane(), order.sequence),
            Self::Letter(letter) => (letter.lane.clone(), letter.sequence),
            Self::Gap(gap) => (gap.lane.clone(), gap.last),
        }
    }
}

/// The lane of the control-plane's commands.
pub fn control_lane() -> Lane {
    Lane { channel: Channel::Control, writer: Writer::Control }
}
