//! A run, folded from what was said on its control, acks and status lanes. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;
use runcast_protocol::{
    Ack, Channel, CommandId, Control, Issued, Json, Lane, Message, Sequence, State, Status, Step,
    VariationId, Writer,
};
use serde::Deserialize;

use crate::life::{Life, Taken};

/// So many commands of a run are remembered; the oldest that are over go first.
const COMMANDS: usize = 10_000;

/// A command that was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// As the control stream has it.
    pub issued: Issued,
    /// When.
    pub time: Timestamp,
    /// For whom, and what became of it.
    pub lives: BTreeMap<VariationId, Life>,
}

/// A variation, as far as anybody said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variation {
    /// What was said last; none if nothing yet.
    pub status: Option<Status>,
    /// When.
    pub time: Option<Timestamp>,
}

/// What CreateRun said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Created {
    /// By whom.
    pub creator: String,
    /// With which labels.
    pub labels: BTreeMap<String, String>,
    /// With which idempotency key.
    pub request_id: Option<String>,
}

/// All that the control-plane needs to know of a run.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    positions: BTreeMap<Lane, Sequence>,
    heard_of: bool,
    variations: BTreeMap<VariationId, Variation>,
    expected: usize,
    created: Option<Created>,
    since: Option<Timestamp>,
    commands: HashMap<CommandId, Command>,
    /// In the order of the control stream.
    order: VecDeque<CommandId>,
    /// Those that are under way, by deadline.
    open: BTreeSet<(Timestamp, CommandId)>,
    requests: HashMap<String, CommandId>,
    /// Acks and endings that were read before the command, or of variations that it is not for.
    early: HashMap<(CommandId, VariationId), Life>,
}

/// What a status of the control-plane may hold beside the status.
#[derive(Deserialize)]
struct Creation {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    request_id: Option<String>,
}

impl RunLog {
    /// Takes in a message, unless it was taken in before; true if it was new. The lanes of other
    /// channels tell nothing.
    pub fn apply(&mut self, message: &Message) -> bool {
        let lane = message.lane();
        if !matches!(lane.channel, Channel::Control | Channel::Acks | Channel::Status) {
            return false;
        }
        let position = self.positions.entry(lane.clone()).or_default();
        if message.sequence <= *position {
            return false;
        }
        *position = message.sequence;
        self.since = Some(self.since.map_or(message.timestamp, |since| since.min(message.timestamp)));
        self.know(&message.variation_id);
        match (lane.channel, &lane.writer) {
            (Channel::Control, Writer::Control) => self.apply_control(message),
            (Channel::Acks, Writer::Variation(variation)) => self.apply_ack(message, variation),
            (Channel::Status, writer) => self.apply_status(message, writer == &Writer::Control),
            // Letters between agents are nobody else's business.
            _ => {}
        }
        true
    }

    /// Learns from a lane of any channel that its writer exists.
    pub fn learn_writer(&mut self, lane: &Lane) {
        if let Some(variation) = lane.writer.variation() {
            self.know(variation);
        }
        self.heard_of = true;
    }

    /// Learns that a lane stands at `last` although its messages are gone.
    pub fn learn(&mut self, lane: &Lane, last: Sequence) {
        let position = self.positions.entry(lane.clone()).or_default();
        *position = (*position).max(last);
    }

    fn know(&mut self, variation: &VariationId) {
        if !self.variations.contains_key(variation) {
            self.variations.insert(variation.clone(), Variation::default());
        }
    }

    fn apply_control(&mut self, message: &Message) {
        let variation = message.variation_id.clone();
        // Something that a later version writes is carried, not understood.
        let Ok(control) = message.content.read::<Control>() else { return };
        let (ended, step) = match control {
            Control::Issued(issued) => return self.issue(issued, message.timestamp, variation),
            Control::Cancelled(ended) => (ended, Step::Cancelled),
            Control::Expired(ended) => (ended, Step::Expired),
        };
        let taken =
            Taken { step, time: message.timestamp, reason: ended.reason, result: None, caller: ended.caller };
        let (id, acks) = (ended.command.clone(), ended.acks);
        self.life(ended.command, variation).ended(acks, taken);
        self.close(&id);
    }

    fn issue(&mut self, issued: Issued, time: Timestamp, variation: VariationId) {
        let life = self.early.remove(&(issued.command.clone(), variation.clone())).unwrap_or_default();
        if let Some(request) = &issued.request_id {
            self.requests.entry(request.clone()).or_insert_with(|| issued.command.clone());
        }
        if !self.commands.contains_key(&issued.command) {
            self.order.push_back(issued.command.clone());
        }
        let id = issued.command.clone();
        let command =
            self.commands.entry(id).or_insert_with(|| Command { issued, time, lives: BTreeMap::new() });
        command.lives.entry(variation).or_insert(life);
        let (id, deadline) = (command.issued.command.clone(), command.issued.deadline);
        self.open.insert((deadline, id.clone()));
        self.close(&id);
        self.forget_old();
    }

    /// Notes a command that has come to its end.
    fn close(&mut self, id: &CommandId) {
        if let Some(command) = self.commands.get(id).filter(|command| command.step().is_terminal()) {
            self.open.remove(&(command.issued.deadline, id.clone()));
        }
    }

    fn forget_old(&mut self) {
        while self.order.len() > COMMANDS
            && let Some(id) = self.order.front()
            && self.commands.get(id).is_none_or(|command| command.step().is_terminal())
        {
            if let Some(command) = self.order.pop_front().and_then(|id| self.commands.remove(&id))
                && let Some(request) = &command.issued.request_id
            {
                self.requests.remove(request);
            }
        }
    }

    fn apply_ack(&mut self, message: &Message, variation: &VariationId) {
        let Ok(Ack { command, step, reason, result }) = message.content.read::<Ack>() else { return };
        let taken = Taken { step, time: message.timestamp, reason, result, caller: None };
        self.life(command.clone(), variation.clone()).acked(message.sequence, taken);
        self.close(&command);
    }

    fn life(&mut self, command: CommandId, variation: VariationId) -> &mut Life {
        match self.commands.get_mut(&command).and_then(|known| known.lives.get_mut(&variation)) {
            Some(life) => life,
            None => {
                if self.early.len() >= COMMANDS {
                    // So many can only be of commands that are forgotten, or that nobody issued to them.
                    self.early.clear();
                }
                self.early.entry((command, variation)).or_default()
            }
        }
    }

    fn apply_status(&mut self, message: &Message, ours: bool) {
        let Ok(status) = message.content.read::<Status>() else { return };
        self.expected = self.expected.max(status.variations.unwrap_or(0) as usize);
        if ours && status.state == State::Pending {
            self.apply_creation(&message.content);
        }
        let variation = self.variations.entry(message.variation_id.clone()).or_default();
        // A late pending must not undo what the sidecar said.
        if status.state != State::Pending || variation.status.is_none() {
            variation.status = Some(status);
            variation.time = Some(message.timestamp);
        }
    }

    fn apply_creation(&mut self, content: &Json) {
        if self.created.is_none()
            && let Ok(Creation { labels, created_by, request_id }) = content.read()
        {
            let (creator, labels) = (created_by.unwrap_or_default(), labels.unwrap_or_default());
            self.created = Some(Created { creator, labels, request_id });
        }
    }

    /// Up to where a lane was read.
    pub fn position(&self, lane: &Lane) -> Sequence {
        self.positions.get(lane).copied().unwrap_or_default()
    }

    /// The lanes, and up to where each was read.
    pub fn positions(&self) -> impl Iterator<Item = (&Lane, Sequence)> {
        self.positions.iter().map(|(lane, read)| (lane, *read))
    }

    /// Whether anything was ever said of it.
    pub fn exists(&self) -> bool {
        self.heard_of || !self.positions.is_empty()
    }

    /// The variations.
    pub fn variations(&self) -> &BTreeMap<VariationId, Variation> {
        &self.variations
    }

    /// How many variations it has, as far as anybody said.
    pub fn expected(&self) -> usize {
        self.expected.max(self.variations.len())
    }

    /// What CreateRun said, if it was.
    pub fn created(&self) -> Option<&Created> {
        self.created.as_ref()
    }

    /// The time of its first message.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// When the last variation ended, if all have.
    pub fn ended(&self) -> Option<Timestamp> {
        self.state()
            .is_terminal()
            .then(|| self.variations.values().filter_map(|variation| variation.time).max())?
    }

    /// A variation's state; running if it wrote but said none.
    pub fn state_of(&self, variation: &VariationId) -> Option<State> {
        let known = self.variations.get(variation)?;
        Some(known.status.as_ref().map_or(State::Running, |status| status.state))
    }

    /// The run's state.
    pub fn state(&self) -> State {
        let known = self.variations.keys().filter_map(|variation| self.state_of(variation));
        let unknown = self.expected.saturating_sub(self.variations.len());
        State::of_run(known.chain(std::iter::repeat_n(State::Pending, unknown)))
    }

    /// A command.
    pub fn command(&self, id: &CommandId) -> Option<&Command> {
        self.commands.get(id)
    }

    /// The command that was issued with an idempotency key.
    pub fn by_request(&self, request: &str) -> Option<&Command> {
        self.commands.get(self.requests.get(request)?)
    }

    /// The commands, the oldest first.
    pub fn commands(&self) -> impl DoubleEndedIterator<Item = &Command> {
        self.order.iter().filter_map(|id| self.commands.get(id))
    }

    /// When the next command expires that is under way.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.open.first().map(|(deadline, _)| *deadline)
    }

    /// The commands that are under way although their deadline has come.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = &Command> {
        let due = self.open.iter().take_while(move |(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| self.commands.get(id))
    }
}

impl Command {
    /// How far it has come: what is least far while it is under way with a variation, else the worst end.
    pub fn step(&self) -> Step {
        let steps = || self.lives.values().map(Life::step);
        let under_way = steps().filter(|step| !step.is_terminal()).min();
        let badness = |step: &Step| match step {
            Step::Applied => 0,
            Step::Cancelled => 1,
            Step::Rejected => 2,
            Step::Expired => 3,
            _ => 4,
        };
        under_way.or_else(|| steps().max_by_key(badness)).unwrap_or(Step::Issued)
    }
}
