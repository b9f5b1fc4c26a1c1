//! Who carries out which command: it depends on how the agent is run.

use runcast_protocol::{Action, CommandId};
use tokio::sync::mpsc;

use super::inbox::Receiver;
use super::order::Order;
use crate::steering;
use crate::typist::Text;

/// Commands that may wait for the keeper of the agent's process.
pub(crate) const ORDERS: usize = 64;

/// Where commands go.
#[derive(Debug)]
pub(crate) enum Router {
    /// `pipe`: there is no way to the agent.
    Nowhere,
    /// `serve`: the agent asks for them.
    Agent,
    /// `exec`: the sidecar started the agent.
    Process {
        /// To the keeper of its process.
        orders: mpsc::Sender<steering::Order>,
        /// To its standard input, if it may be written to.
        input: Option<mpsc::Sender<Text>>,
        /// Whether the agent can ask for commands as well (`exec.api`).
        api: bool,
    },
}

impl Router {
    /// Why an action cannot be done here at all; none if it can.
    pub(crate) fn refusal(&self, action: &Action) -> Option<String> {
        let why = match (self, action) {
            (Self::Nowhere, _) => {
                "the sidecar reads a pipe (`pipe`) and has no way to reach the agent; use `exec` or `serve`"
            }
            (Self::Process { input: None, .. }, Action::Input { .. }) => {
                "the agent's standard input is not ours to write to; set exec.input = true, or give --input"
            }
            (Self::Process { api: false, .. }, Action::Config { .. }) => {
                "the agent cannot be told of a new configuration; set exec.api = true and let it ask, or use `serve`"
            }
            (Self::Process { api: false, .. }, Action::Custom { .. }) => {
                "the agent cannot be told; set exec.api = true and let it ask for its commands, or use `serve`"
            }
            _ => return None,
        };
        Some(why.to_owned())
    }

    /// Hands a command over.
    ///
    /// # Errors
    /// Why it cannot be taken any more.
    pub(crate) async fn hand_over(&self, order: &Order) -> Result<Receiver, String> {
        let ended = || "the agent has ended".to_owned();
        let Self::Process { orders, input, .. } = self else { return Ok(Receiver::Agent) };
        let issued = &order.issued;
        let command: CommandId = issued.command.clone();
        let what = match &issued.action {
            Action::Pause => steering::What::Pause,
            Action::Resume => steering::What::Resume,
            Action::Stop { grace_ms } => steering::What::Stop(std::time::Duration::from_millis(*grace_ms)),
            Action::Input { text } => {
                let Some(input) = input else { return Err(ended()) };
                let text = Text { command, text: text.clone(), deadline: issued.deadline };
                return match input.try_send(text) {
                    Ok(()) => Ok(Receiver::Sidecar),
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Err("the agent does not read its input: too much of it waits already".to_owned())
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
                };
            }
            Action::Config { .. } | Action::Custom { .. } => return Ok(Receiver::Agent),
        };
        let order = steering::Order { command, caller: issued.caller.clone(), what };
        orders.send(order).await.map(|()| Receiver::Sidecar).map_err(|_| ended())
    }
}
