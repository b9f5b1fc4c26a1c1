//! Creating, watching and ending runs, as `RunService` offers it.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use jiff::Timestamp;
use runcast_auth::Access;
use runcast_bus::{BusError, Limits};
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_server::RunService;
use runcast_protocol::{RunId, State};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::callers::{Caller, Callers};
use crate::error::Refusal;
use crate::quotas::Quotas;
use crate::run::{Run, RunContext};
use crate::run_log::Created;
use crate::runs::Runs;
use crate::{check, convert, credential_calls, plan};

/// Changes that a slow watcher may fall behind; then he gets the latest only.
const CHANGES: usize = 16;
/// How often it is looked for a run that does not exist yet.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most variations of a run that is created.
const MAX_VARIATIONS: usize = 1000;
/// Most labels, and how long their keys and values may be.
const MAX_LABELS: (usize, usize, usize) = (64, 63, 256);

/// `runcast.control.v1.RunService`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunCalls {
    runs: Runs,
    callers: Callers,
    quotas: Quotas,
}

impl RunCalls {
    /// For these runs and callers, as far as the quotas go.
    pub fn new(runs: Runs, callers: Callers, quotas: Quotas) -> Self {
        Self { runs, callers, quotas }
    }

    async fn create(
        &self,
        request: proto::CreateRunRequest,
        caller: &Caller,
    ) -> Result<proto::CreateRunResponse, Refusal> {
        let id = RunId::new(&request.run_id).map_err(|error| Refusal::invalid("run_id", error))?;
        let variations = check::variations(&request.variation_ids)?;
        if variations.is_empty() || variations.len() > MAX_VARIATIONS {
            return Err(Refusal::invalid("variation_ids", format!("expected 1 to {MAX_VARIATIONS}")));
        }
        let (creator, labels) = (caller.name.clone(), labels(request.labels)?);
        let created = Created { creator, labels, request_id: check::request_id(request.request_id)? };
        let run = self.runs.begin(&id);
        run.refresh().await?;
        let mut ours = false;
        run.decide(|log| {
            if !log.exists() {
                self.quotas.admit(&id)?;
                ours = true;
                return Ok(plan::create(&variations, &created));
            }
            let again = log.created().is_some_and(|before| {
                created.request_id.is_some() && before.request_id == created.request_id
            });
            if ours || again { Ok(None) } else { Err(Refusal::Exists(format!("runs/{id} exists"))) }
        })
        .await?;
        let run = self.runs.follow(run);
        run.refresh().await?;
        let credential = match &self.runs.context().users {
            Some(users) => users.issue(&id, ours).await?,
            None => None,
        };
        let shown = shown(&run).await;
        self.tell("created", &run.id, json!(created.labels)).await?;
        let credential = credential.map(credential_calls::shown);
        Ok(proto::CreateRunResponse { run: Some(shown), credential })
    }

    async fn delete(&self, name: &str, force: bool) -> Result<(), Refusal> {
        let id = check::run_name("name", name)?;
        let run = self.runs.open(&id).await?.ok_or_else(|| Refusal::NotFound(format!("runs/{id}")))?;
        let state = run.look(super::run_log::RunLog::state).await;
        if !state.is_terminal() && !force {
            return Err(Refusal::precondition(name, format!("it is {state}: end it first, or set force")));
        }
        let RunContext { bus, users, .. } = self.runs.context();
        if let Some(users) = users {
            users.run_is_over(&id, true).await?;
        }
        bus.delete_run(&id).await?;
        // Those who watch it here are told now, the other replicas find out by themselves.
        run.refresh().await?;
        self.tell("deleted", &id, json!({})).await?;
        Ok(())
    }

    async fn tell(&self, event: &str, id: &RunId, labels: serde_json::Value) -> Result<(), Refusal> {
        let time = Timestamp::now().to_string();
        let event = json!({"event": event, "run_id": id.as_str(), "time": time, "labels": labels});
        let context = self.runs.context();
        let limits = Limits { ttl: self.runs.retention().feed, ..context.limits };
        context.bus.tell_lifecycle(id, event.to_string().into(), limits).await?;
        Ok(())
    }

    async fn end(&self, name: &str, reason: String, caller: &Caller) -> Result<proto::Run, Refusal> {
        let id = check::run_name("name", name)?;
        let reason = check::reason(reason)?.unwrap_or_else(|| format!("ended by {}", caller.name));
        let run = self.runs.open(&id).await?.ok_or_else(|| Refusal::NotFound(format!("runs/{id}")))?;
        run.decide(|log| Ok::<_, Refusal>(plan::end_run(log, &reason))).await?;
        Ok(shown(&run).await)
    }

    /// A run as it stands, without following it from now on; none if it has gone meanwhile.
    async fn glance(&self, id: &RunId) -> Result<Option<proto::Run>, BusError> {
        let run = self.runs.begin(id);
        run.refresh().await?;
        Ok(run.look(|log| log.exists().then(|| convert::run(id, log))).await)
    }
}

async fn shown(run: &Run) -> proto::Run {
    run.look(|log| convert::run(&run.id, log)).await
}

fn labels(labels: HashMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let (most, key_length, value_length) = MAX_LABELS;
    let fits = labels.len() <= most
        && labels.iter().all(|(key, value)| {
            (1..=key_length).contains(&key.chars().count()) && value.chars().count() <= value_length
        });
    if !fits {
        let why = format!(
            "at most {most}, keys of 1 to {key_length} and values of at most {value_length} characters"
        );
        return Err(Refusal::invalid("labels", why));
    }
    Ok(labels.into_iter().collect())
}

#[tonic::async_trait]
impl RunService for RunCalls {
    async fn create_run(
        &self,
        request: Request<proto::CreateRunRequest>,
    ) -> Result<Response<proto::CreateRunResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let name = format!("runs/{}", request.run_id);
        let outcome = self.create(request, &caller).await;
        caller.audit("CreateRun", &name, "", &outcome);
        Ok(Response::new(outcome?))
    }

    async fn get_run(
        &self,
        request: Request<proto::GetRunRequest>,
    ) -> Result<Response<proto::GetRunResponse>, Status> {
        self.callers.admit(&request)?;
        let id = check::run_name("name", &request.into_inner().name)?;
        let run = self.glance(&id).await.map_err(Refusal::from)?;
        let run = run.ok_or_else(|| Refusal::NotFound(format!("runs/{id}")))?;
        Ok(Response::new(proto::GetRunResponse { run: Some(run) }))
    }

    async fn list_runs(
        &self,
        request: Request<proto::ListRunsRequest>,
    ) -> Result<Response<proto::ListRunsResponse>, Status> {
        self.callers.admit(&request)?;
        let access = request.extensions().get::<Access>().cloned();
        let request = request.into_inner();
        let size = check::page_size(request.page_size)?;
        let states = check::states(&request.states)?;
        let ids = self.runs.context().bus.runs().await.map_err(Refusal::from)?;
        // Those that are not shown are left out before pages are cut: their number does not show either.
        let after = ids.into_iter().filter(|id| {
            id.as_str() > request.page_token.as_str()
                && access.as_ref().is_none_or(|access| access.covers(id))
        });
        let (mut runs, mut next_page_token) = (Vec::new(), String::new());
        for id in after {
            if runs.len() == size {
                next_page_token = runs.last().map_or_else(String::new, |(id, _): &(RunId, _)| id.to_string());
                break;
            }
            let Some(run) = self.glance(&id).await.map_err(Refusal::from)? else { continue };
            let in_state = states.is_empty() || states.contains(&run.state());
            if in_state && request.labels.iter().all(|(key, value)| run.labels.get(key) == Some(value)) {
                runs.push((id, run));
            }
        }
        let runs = runs.into_iter().map(|(_, run)| run).collect();
        Ok(Response::new(proto::ListRunsResponse { runs, next_page_token }))
    }

    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<proto::WatchRunResponse, Status>> + Send>>;

    async fn watch_run(
        &self,
        request: Request<proto::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        self.callers.admit(&request)?;
        let id = check::run_name("name", &request.into_inner().name)?;
        let (changes, receiver) = mpsc::channel(CHANGES);
        // Ends when the watcher goes, or the run does.
        tokio::spawn(watch(self.runs.clone(), id, changes));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn end_run(
        &self,
        request: Request<proto::EndRunRequest>,
    ) -> Result<Response<proto::EndRunResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let outcome = self.end(&request.name, request.reason, &caller).await;
        caller.audit("EndRun", &request.name, "", &outcome);
        Ok(Response::new(proto::EndRunResponse { run: Some(outcome?) }))
    }

    async fn delete_run(
        &self,
        request: Request<proto::DeleteRunRequest>,
    ) -> Result<Response<proto::DeleteRunResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let outcome = self.delete(&request.name, request.force).await;
        caller.audit("DeleteRun", &request.name, "", &outcome);
        outcome?;
        Ok(Response::new(proto::DeleteRunResponse {}))
    }

    async fn rotate_credential(
        &self,
        request: Request<proto::RotateCredentialRequest>,
    ) -> Result<Response<proto::RotateCredentialResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let name = request.into_inner().name;
        let outcome = credential_calls::rotate(&self.runs, &name).await;
        caller.audit("RotateCredential", &name, "", &outcome);
        Ok(Response::new(outcome?))
    }

    async fn revoke_credential(
        &self,
        request: Request<proto::RevokeCredentialRequest>,
    ) -> Result<Response<proto::RevokeCredentialResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let name = request.into_inner().name;
        let outcome = credential_calls::revoke(&self.runs, &name).await;
        caller.audit("RevokeCredential", &name, "", &outcome);
        Ok(Response::new(outcome?))
    }

    async fn list_credentials(
        &self,
        request: Request<proto::ListCredentialsRequest>,
    ) -> Result<Response<proto::ListCredentialsResponse>, Status> {
        self.callers.admit(&request)?;
        let access = request.extensions().get::<Access>();
        let covers = |id: &RunId| access.is_none_or(|access| access.covers(id));
        Ok(Response::new(credential_calls::list(&self.runs, covers).await?))
    }
}

async fn watch(runs: Runs, id: RunId, changes: mpsc::Sender<Result<proto::WatchRunResponse, Status>>) {
    let run = loop {
        // Redis that is away is waited for, as a run is that does not exist yet.
        if let Ok(Some(run)) = runs.open(&id).await {
            break run;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = changes.closed() => return,
        }
    };
    let mut seen = run.changes();
    let mut last = None;
    loop {
        seen.mark_unchanged();
        let stands = run.look(|log| log.exists().then(|| (convert::run(&id, log), log.state()))).await;
        let Some((now, state)) = stands else {
            let gone = Refusal::NotFound(format!("runs/{id}"));
            let _ = changes.send(Err(gone.into())).await;
            return;
        };
        if last.as_ref() != Some(&now) {
            last = Some(now.clone());
            if changes.send(Ok(proto::WatchRunResponse { run: Some(now) })).await.is_err() {
                return;
            }
        }
        if State::is_terminal(state) {
            return;
        }
        tokio::select! {
            _ = seen.changed() => {}
            () = changes.closed() => return,
        }
    }
}
