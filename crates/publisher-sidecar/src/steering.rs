//! Pause, resume and stop of an agent that the sidecar started: which signals are sent, and what is
//! answered when.
//!
//! Pure: orders, what the kernel says of the processes, and the time go in; signals and answers come out.
//! An order is answered by what is seen of the processes, not by having sent a signal.

use std::time::Duration;

use runcast_protocol::{CommandId, Step};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::processes::Census;

/// How long processes may take to stand still, or to go on, before the order counts as failed: one that
/// waits for a dead disk does neither.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what was killed may take to be gone.
const BURIAL: Duration = Duration::from_secs(2);

/// How long to wait between two looks at the processes: at first, and at most.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_MOST: Duration = Duration::from_millis(4);

/// What the keeper of the agent's process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The command that says so.
    pub command: CommandId,
    /// Who sent it.
    pub caller: String,
    /// What.
    pub what: What,
}

/// What is to be done with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Let it end by itself within so long, then kill it.
    Stop(Duration),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The command.
    pub command: CommandId,
    /// How far it has come.
    pub step: Step,
    /// Why, for people.
    pub reason: Option<String>,
    /// What came of it, for programs.
    pub result: Option<Value>,
}

/// What is to be done now, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send the agent a signal.
    Signal(Signal),
    /// Answer an order.
    Answer(Answer),
}

/// Who wanted the agent to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Who sent us a signal, and its name.
    Signal(&'static str),
    /// Who sent a command.
    Command(CommandId, String),
}

/// See the module's documentation. Times are since any common beginning.
#[derive(Debug, Default)]
pub struct Steering {
    /// The agent's own process, if signals reach that one alone.
    only: Option<i32>,
    checking: Option<Checking>,
    ending: Option<Ending>,
    cause: Option<Cause>,
    over: bool,
}

/// Signals were sent, and the processes are looked at until they stand as wanted.
#[derive(Debug)]
struct Checking {
    stopped: bool,
    orders: Vec<CommandId>,
    until: Duration,
    look: Look,
}

/// The agent was told to end.
#[derive(Debug)]
struct Ending {
    orders: Vec<CommandId>,
    kill_at: Duration,
    killed: bool,
    /// How it ended, once it has; what it started may still be there.
    exit: Option<Value>,
    look: Look,
}

/// When to look next.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    pause: Duration,
}

impl Look {
    fn at_once(now: Duration) -> Self {
        Self { at: now, pause: LOOK }
    }

    fn again(&mut self, now: Duration) {
        self.at = now + self.pause;
        self.pause = (self.pause * 2).min(LOOK_MOST);
    }
}

impl Steering {
    /// Of an agent whose whole process group is reached by signals, or of which `only` its own process is.
    pub fn new(only: Option<i32>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Who wanted the agent to end first.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Whether the agent has ended, and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// When [`Self::tick`] is to be called next.
    pub fn wake_at(&self) -> Option<Duration> {
        let check = self.checking.as_ref().map(|checking| checking.look.at);
        let ending = self.ending.as_ref().and_then(|ending| match (&ending.exit, ending.killed) {
            (None, true) => None,
            (None, false) => Some(ending.kill_at),
            (Some(_), _) => Some(ending.look.at),
        });
        check.into_iter().chain(ending).min()
    }

    /// Takes an order.
    pub fn order(&mut self, order: Order, now: Duration) -> Vec<Effect> {
        let Order { command, caller, what } = order;
        match (what, &mut self.ending) {
            (What::Stop(grace), Some(ending)) => {
                ending.kill_at = ending.kill_at.min(now + grace);
                ending.orders.push(command.clone());
                vec![accepted(command, grace)]
            }
            (What::Stop(grace), None) => {
                self.cause = Some(Cause::Command(command.clone(), caller));
                let mut effects = self.overtake("a stop");
                self.end(vec![command.clone()], grace, now);
                effects.extend([Effect::Signal(Signal::TERM), Effect::Signal(Signal::CONT)]);
                effects.push(accepted(command, grace));
                effects
            }
            (_, Some(_)) => {
                vec![answer(command, Step::Rejected, Some("the agent is being stopped".into()), None)]
            }
            (What::Pause, None) => self.check(command, true, now),
            (What::Resume, None) => self.check(command, false, now),
        }
    }

    fn check(&mut self, command: CommandId, stopped: bool, now: Duration) -> Vec<Effect> {
        let same = self.checking.take_if(|checking| checking.stopped == stopped);
        let mut effects = self.overtake(if stopped { "a pause" } else { "a resume" });
        effects.push(Effect::Signal(if stopped { Signal::STOP } else { Signal::CONT }));
        let mut orders = same.map(|checking| checking.orders).unwrap_or_default();
        orders.push(command);
        self.checking = Some(Checking { stopped, orders, until: now + PATIENCE, look: Look::at_once(now) });
        effects
    }

    /// What was not seen to be done cannot be seen any more.
    fn overtake(&mut self, by: &str) -> Vec<Effect> {
        let orders = self.checking.take().map(|checking| checking.orders).unwrap_or_default();
        let reason = format!("{by} came before it was seen to be done");
        orders.into_iter().map(|command| answer(command, Step::Failed, Some(reason.clone()), None)).collect()
    }

    fn end(&mut self, orders: Vec<CommandId>, grace: Duration, now: Duration) {
        let (kill_at, look) = (now.saturating_add(grace), Look::at_once(now));
        self.ending = Some(Ending { orders, kill_at, killed: false, exit: None, look });
    }

    /// We were told to end, by a signal of this name; the agent is to, within `grace`. `signal` is what
    /// is passed on to it; none if it has got it by itself.
    pub fn told(
        &mut self,
        name: &'static str,
        signal: Option<Signal>,
        grace: Duration,
        now: Duration,
    ) -> Vec<Effect> {
        self.cause.get_or_insert(Cause::Signal(name));
        let mut effects = self.overtake(name);
        match &mut self.ending {
            Some(ending) => ending.kill_at = ending.kill_at.min(now + grace),
            None => self.end(Vec::new(), grace, now),
        }
        effects.extend(signal.map(Effect::Signal));
        // One that stands still gets it only when it goes on.
        effects.push(Effect::Signal(Signal::CONT));
        effects
    }

    /// Time has passed; `look` counts the processes.
    pub fn tick(&mut self, now: Duration, look: impl FnOnce() -> Census) -> Vec<Effect> {
        if self.ending.is_some() {
            return self.tick_ending(now, look);
        }
        let Some(checking) = self.checking.as_mut().filter(|checking| checking.look.at <= now) else {
            return Vec::new();
        };
        let Census { processes, stopped } = look();
        let as_wanted = if checking.stopped { processes } else { 0 };
        let is_done = processes > 0 && stopped == as_wanted;
        if !is_done && now < checking.until {
            checking.look.again(now);
            return Vec::new();
        }
        let orders = self.checking.take().map(|checking| checking.orders).unwrap_or_default();
        let mut result = json!({ "processes": processes });
        if let Some(pid) = self.only {
            result["pids"] = json!([pid]);
        }
        let (step, reason) = if is_done {
            let only = "only the agent's own process was reached, since standard input is a terminal";
            (Step::Applied, self.only.map(|_| only.to_owned()))
        } else {
            result["stopped"] = json!(stopped);
            (Step::Failed, Some(format!("after {PATIENCE:?} {stopped} of {processes} processes stand still")))
        };
        let answers =
            orders.into_iter().map(|command| answer(command, step, reason.clone(), Some(result.clone())));
        answers.collect()
    }

    fn tick_ending(&mut self, now: Duration, look: impl FnOnce() -> Census) -> Vec<Effect> {
        let Some(ending) = &mut self.ending else { return Vec::new() };
        let mut effects = Vec::new();
        if now >= ending.kill_at && !ending.killed {
            ending.killed = true;
            effects.push(Effect::Signal(Signal::KILL));
        }
        let Some(exit) = ending.exit.as_ref().filter(|_| ending.look.at <= now) else { return effects };
        let left = look().processes;
        let given_up = now >= ending.kill_at.saturating_add(BURIAL);
        if left > 0 && !given_up {
            ending.look.again(now);
            return effects;
        }
        let mut result = exit.clone();
        if left > 0 {
            result["left"] = json!(left);
        }
        let applied =
            ending.orders.drain(..).map(|command| answer(command, Step::Applied, None, Some(result.clone())));
        effects.extend(applied);
        self.over = true;
        effects
    }

    /// The agent's own process has ended; `exit` says how.
    pub fn exited(&mut self, exit: Value, now: Duration) -> Vec<Effect> {
        let ended =
            |command| answer(command, Step::Failed, Some("the agent has ended".into()), Some(exit.clone()));
        let orders = self.checking.take().map(|checking| checking.orders).unwrap_or_default();
        let effects = orders.into_iter().map(ended).collect();
        match &mut self.ending {
            // Whoever ordered it to stop means all of it.
            Some(ending) if !ending.orders.is_empty() && self.only.is_none() => {
                ending.exit = Some(exit);
                ending.look = Look::at_once(now);
                effects
            }
            Some(ending) => {
                let applied = ending
                    .orders
                    .drain(..)
                    .map(|command| answer(command, Step::Applied, None, Some(exit.clone())));
                self.over = true;
                effects.into_iter().chain(applied).collect()
            }
            None => {
                self.over = true;
                effects
            }
        }
    }
}

fn accepted(command: CommandId, grace: Duration) -> Effect {
    let reason = format!("told to end by SIGTERM; what is left after {grace:?} is killed");
    answer(command, Step::Accepted, Some(reason), None)
}

fn answer(command: CommandId, step: Step, reason: Option<String>, result: Option<Value>) -> Effect {
    Effect::Answer(Answer { command, step, reason, result })
}

#[cfg(test)]
mod tests;
