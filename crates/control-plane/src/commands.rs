//! Sending commands and following them, as `CommandService` offers it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use jiff::Timestamp;
use opentelemetry::KeyValue;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command_service_server::CommandService;
use runcast_protocol::{CommandId, Issued, RunId, State, Step, VariationId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::callers::{Caller, Callers};
use crate::check::{self, Order};
use crate::convert;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::plan;
use crate::run::Run;
use crate::run_log::{Command, RunLog};
use crate::runs::Runs;

/// Steps that a slow watcher may fall behind; then he gets the latest only.
const STEPS: usize = 16;

/// `runcast.control.v1.CommandService`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {
    runs: Runs,
    callers: Callers,
    metrics: Metrics,
}

impl Commands {
    /// For these runs and callers.
    pub fn new(runs: Runs, callers: Callers, metrics: Metrics) -> Self {
        Self { runs, callers, metrics }
    }

    async fn send(&self, order: Order, caller: &Caller) -> Result<(Arc<Run>, CommandId), Refusal> {
        let run = self.open(&order.run).await?;
        let id = CommandId::new(Uuid::now_v7().simple().to_string())
            .map_err(|error| Refusal::invalid("command", error))?;
        let issued = Issued {
            command: id.clone(),
            action: order.action.clone(),
            deadline: order.deadline,
            caller: caller.name.clone(),
            request_id: order.request_id.clone(),
            everyone: order.variations.is_empty(),
        };
        let mut stands = id;
        run.decide(|log| {
            if let Some(before) = order.request_id.as_deref().and_then(|request| log.by_request(request)) {
                same(before, &order)?;
                stands = before.issued.command.clone();
                return Ok(None);
            }
            stands = issued.command.clone();
            Ok::<_, Refusal>(plan::issue(&issued, &targets(log, &order)?))
        })
        .await?;
        self.metrics.commands.add(1, &[KeyValue::new("action", order.action.name())]);
        Ok((run, stands))
    }

    async fn open(&self, id: &RunId) -> Result<Arc<Run>, Refusal> {
        self.runs.open(id).await?.ok_or_else(|| Refusal::NotFound(format!("runs/{id}")))
    }

    async fn found(&self, name: &str) -> Result<(Arc<Run>, CommandId), Refusal> {
        let (run, id) = check::command_name(name)?;
        let run = self.open(&run).await?;
        shown(&run, &id).await?;
        Ok((run, id))
    }

    /// Waits until a command is over.
    async fn wait(&self, run: &Run, id: &CommandId) -> Result<proto::Command, Refusal> {
        let mut changes = run.changes();
        loop {
            changes.mark_unchanged();
            let over =
                run.look(|log| log.command(id).is_none_or(|command| command.step().is_terminal())).await;
            if over {
                let command = shown(run, id).await?;
                self.count(run, id).await;
                return Ok(command);
            }
            // Its sender lives as long as the run that we hold.
            let _ = changes.changed().await;
        }
    }

    async fn count(&self, run: &Run, id: &CommandId) {
        let seen = run.look(|log| {
            let command = log.command(id)?;
            let ends = command.lives.values().filter_map(|life| life.steps().last().map(|taken| taken.time));
            let took = ends.max()?.duration_since(command.time).as_secs_f64();
            Some((command.issued.action.name(), command.step().as_str(), took))
        });
        if let Some((action, state, took)) = seen.await {
            let labels = [KeyValue::new("action", action), KeyValue::new("state", state)];
            self.metrics.outcomes.add(1, &labels);
            self.metrics.duration.record(took.max(0.0), &labels);
        }
    }
}

/// For whom an order is meant, as things stand.
fn targets(log: &RunLog, order: &Order) -> Result<Vec<VariationId>, Refusal> {
    if !log.exists() {
        return Err(Refusal::NotFound(format!("runs/{}", order.run)));
    }
    let ended = |variation: &VariationId| log.state_of(variation).is_some_and(State::is_terminal);
    if order.variations.is_empty() {
        let open: Vec<_> = log.variations().keys().filter(|variation| !ended(variation)).cloned().collect();
        if open.is_empty() {
            return Err(Refusal::precondition(
                format!("runs/{}", order.run),
                "all its variations have ended",
            ));
        }
        return Ok(open);
    }
    for variation in &order.variations {
        let name = || format!("runs/{}/variations/{variation}", order.run);
        match log.state_of(variation) {
            None => return Err(Refusal::NotFound(name())),
            Some(state) if state.is_terminal() => {
                return Err(Refusal::precondition(name(), format!("it has ended: {state}")));
            }
            Some(_) => {}
        }
    }
    Ok(order.variations.clone())
}

/// Whether an order repeats what was issued with the same key.
fn same(before: &Command, order: &Order) -> Result<(), Refusal> {
    // Who all are may have changed since.
    let same_variations = if before.issued.everyone || order.variations.is_empty() {
        before.issued.everyone && order.variations.is_empty()
    } else {
        order.variations.iter().collect::<BTreeSet<_>>() == before.lives.keys().collect()
    };
    if same_variations && before.issued.action == order.action {
        return Ok(());
    }
    Err(Refusal::Exists(format!(
        "request_id was used for {}, which is something else",
        before.issued.command
    )))
}

async fn shown(run: &Run, id: &CommandId) -> Result<proto::Command, Refusal> {
    let command = run.look(|log| log.command(id).map(|command| convert::command(&run.id, command))).await;
    command.ok_or_else(|| Refusal::NotFound(format!("runs/{}/commands/{id}", run.id)))
}

#[tonic::async_trait]
impl CommandService for Commands {
    async fn send_command(
        &self,
        request: Request<proto::SendCommandRequest>,
    ) -> Result<Response<proto::SendCommandResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let (parent, what) = (request.parent.clone(), action_name(&request));
        let outcome = async {
            let (run, id) = self.send(check::order(request, Timestamp::now())?, &caller).await?;
            shown(&run, &id).await
        };
        let outcome = outcome.await;
        caller.audit("SendCommand", &parent, what, &outcome);
        Ok(Response::new(proto::SendCommandResponse { command: Some(outcome?) }))
    }

    async fn execute_command(
        &self,
        request: Request<proto::ExecuteCommandRequest>,
    ) -> Result<Response<proto::ExecuteCommandResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request =
            request.into_inner().request.ok_or_else(|| Refusal::invalid("request", "say what to send"))?;
        let (parent, what) = (request.parent.clone(), action_name(&request));
        let sent = async { self.send(check::order(request, Timestamp::now())?, &caller).await }.await;
        caller.audit("ExecuteCommand", &parent, what, &sent);
        let (run, id) = sent?;
        let command = self.wait(&run, &id).await?;
        Ok(Response::new(proto::ExecuteCommandResponse { command: Some(command) }))
    }

    type WatchCommandStream = Pin<Box<dyn Stream<Item = Result<proto::WatchCommandResponse, Status>> + Send>>;

    async fn watch_command(
        &self,
        request: Request<proto::WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        self.callers.admit(&request)?;
        let (run, id) = self.found(&request.into_inner().name).await?;
        let (steps, receiver) = mpsc::channel(STEPS);
        // Ends when the watcher goes, or the command does.
        tokio::spawn(watch(run, id, steps));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_command(
        &self,
        request: Request<proto::GetCommandRequest>,
    ) -> Result<Response<proto::GetCommandResponse>, Status> {
        self.callers.admit(&request)?;
        let (run, id) = self.found(&request.into_inner().name).await?;
        Ok(Response::new(proto::GetCommandResponse { command: Some(shown(&run, &id).await?) }))
    }

    async fn list_commands(
        &self,
        request: Request<proto::ListCommandsRequest>,
    ) -> Result<Response<proto::ListCommandsResponse>, Status> {
        self.callers.admit(&request)?;
        let request = request.into_inner();
        let run = self.open(&check::run_name("parent", &request.parent)?).await?;
        let size = check::page_size(request.page_size)?;
        let token = request.page_token.as_str();
        let page = run.look(|log| {
            let mut all = log.commands().rev();
            // The token is the last command of the page before.
            if !token.is_empty() && !all.any(|command| command.issued.command.as_str() == token) {
                return Err(Refusal::invalid("page_token", "not a token of this run's commands"));
            }
            Ok(all.take(size + 1).map(|command| convert::command(&run.id, command)).collect::<Vec<_>>())
        });
        let mut commands = page.await?;
        let more = commands.len() > size;
        commands.truncate(size);
        let last = commands.last().filter(|_| more).and_then(|command| command.name.rsplit('/').next());
        let next_page_token = last.unwrap_or_default().to_owned();
        Ok(Response::new(proto::ListCommandsResponse { commands, next_page_token }))
    }

    async fn cancel_command(
        &self,
        request: Request<proto::CancelCommandRequest>,
    ) -> Result<Response<proto::CancelCommandResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let outcome = async {
            let reason = check::reason(request.reason)?;
            let (run, id) = self.found(&request.name).await?;
            let mut tried = Vec::new();
            run.decide(|log| {
                let Some(command) = log.command(&id) else {
                    return Err(Refusal::NotFound(request.name.clone()));
                };
                if let Some(plan) = plan::cancel(log, &id, &caller.name, reason.clone()) {
                    tried = plan.items.iter().map(|(variation, _)| variation.clone()).collect();
                    return Ok(Some(plan));
                }
                // Nobody waits for it any longer: perhaps because what was tried stands, and only the answer
                // was lost. If it was delivered meanwhile, it does not.
                let called_back = |id: &VariationId| {
                    command.lives.get(id).is_some_and(|life| life.step() == Step::Cancelled)
                };
                if tried.iter().any(called_back) {
                    return Ok(None);
                }
                Err(Refusal::precondition(&request.name, format!("too late: it is {}", command.step())))
            })
            .await?;
            shown(&run, &id).await
        };
        let outcome = outcome.await;
        caller.audit("CancelCommand", &request.name, "", &outcome);
        Ok(Response::new(proto::CancelCommandResponse { command: Some(outcome?) }))
    }
}

async fn watch(
    run: Arc<Run>,
    id: CommandId,
    steps: mpsc::Sender<Result<proto::WatchCommandResponse, Status>>,
) {
    let mut changes = run.changes();
    let mut last = None;
    loop {
        changes.mark_unchanged();
        let over = run.look(|log| log.command(&id).is_none_or(|command| command.step().is_terminal())).await;
        let command = match shown(&run, &id).await {
            Ok(command) => command,
            // Its run was deleted, or it was over long ago and forgotten.
            Err(gone) => {
                let _ = steps.send(Err(gone.into())).await;
                return;
            }
        };
        if last.as_ref() != Some(&command) {
            last = Some(command.clone());
            if steps.send(Ok(proto::WatchCommandResponse { command: Some(command) })).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = steps.closed() => return,
        }
    }
}

fn action_name(request: &proto::SendCommandRequest) -> &'static str {
    use proto::command::Action;
    match request.command.as_ref().and_then(|command| command.action.as_ref()) {
        None => "",
        Some(Action::Pause(_)) => "pause",
        Some(Action::Resume(_)) => "resume",
        Some(Action::Stop(_)) => "stop",
        Some(Action::UpdateConfig(_)) => "config",
        Some(Action::Input(_)) => "input",
        Some(Action::Custom(_)) => "custom",
    }
}
