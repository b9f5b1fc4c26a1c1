//! Asks for tokens before a call reaches its service. Each method of a service stands here with what it takes;
//! one that is added to the service does not compile until it does.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, future, stream};
use http::Method;
use runcast_auth::{Access, Denied, Gate, Operation};
use runcast_protocol::RunId;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command_service_server::CommandService;
use runcast_protocol::grpc::control::run_service_server::RunService;
use runcast_protocol::grpc::control::token_service_server::TokenService;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::callers::CALLER;
use crate::check;
use crate::error::Refusal;

/// A service behind a gate.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    service: S,
    gate: Gate,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<S> Guarded<S> {
    pub(crate) fn new(service: S, gate: Gate) -> Self {
        Self { service, gate }
    }

    /// Lets a call in. Who calls is what the token says; the access goes along with the call.
    async fn admit<T>(&self, request: &mut Request<T>) -> Result<Access, Status> {
        // A call may change things, so that a cookie never counts.
        let headers = request.metadata().clone().into_headers();
        let access = self.gate.admit(&Method::POST, &headers).await.map_err(status)?;
        if let Some(subject) = access.subject() {
            let name = MetadataValue::try_from(subject).map_err(|_| status(Denied::Invalid))?;
            request.metadata_mut().insert(CALLER, name);
        }
        request.extensions_mut().insert(access.clone());
        Ok(access)
    }

    async fn may<T>(
        &self,
        request: &mut Request<T>,
        operation: Operation,
        run: impl Fn(&T) -> Result<RunId, Refusal>,
    ) -> Result<Access, Status> {
        let access = self.admit(request).await?;
        let run = run(request.get_ref())?;
        access.may(operation, &run).map_err(status)?;
        Ok(access)
    }
}

fn status(denied: Denied) -> Status {
    let code = match denied {
        Denied::Missing | Denied::Invalid | Denied::Spent | Denied::Expired | Denied::Revoked => {
            Code::Unauthenticated
        }
        Denied::Forbidden => Code::PermissionDenied,
        Denied::TooOften(wait) => return Refusal::TooOften(wait).into(),
        Denied::Unavailable => Code::Unavailable,
    };
    Status::new(code, denied.to_string())
}

/// Goes on until the access ends.
fn until_it_ends<T: Send + 'static>(answers: Answers<T>, access: Access) -> Answers<T> {
    let answers = answers.map(Some).chain(stream::once(future::ready(None)));
    let end = stream::once(access.ends()).map(|denied| Some(Err(status(denied))));
    let both = stream::select(answers, end);
    // Whichever ends it: the last answer, or the access.
    let mut over = false;
    Box::pin(both.take_while(move |item| future::ready(item.is_some())).filter_map(future::ready).take_while(
        move |answer| {
            let goes_on = !over;
            over = answer.is_err();
            future::ready(goes_on)
        },
    ))
}

fn command_of(name: &str) -> Result<RunId, Refusal> {
    check::command_name(name).map(|(run, _)| run)
}

fn action(request: &proto::SendCommandRequest) -> Operation {
    use proto::command::Action;
    Operation::Control(match request.command.as_ref().and_then(|command| command.action.as_ref()) {
        Some(Action::Pause(_)) => "pause",
        Some(Action::Resume(_)) => "resume",
        Some(Action::Stop(_)) => "stop",
        Some(Action::UpdateConfig(_)) => "reconfigure",
        Some(Action::Input(_)) => "send",
        // One without an action is refused by the service.
        Some(Action::Custom(_)) | None => "custom",
    })
}

#[tonic::async_trait]
impl<S: RunService<WatchRunStream = Answers<proto::WatchRunResponse>>> RunService for Guarded<S> {
    async fn create_run(
        &self,
        mut request: Request<proto::CreateRunRequest>,
    ) -> Result<Response<proto::CreateRunResponse>, Status> {
        let run = |request: &proto::CreateRunRequest| {
            RunId::new(&request.run_id).map_err(|error| Refusal::invalid("run_id", error))
        };
        self.may(&mut request, Operation::Create, run).await?;
        self.service.create_run(request).await
    }

    async fn get_run(
        &self,
        mut request: Request<proto::GetRunRequest>,
    ) -> Result<Response<proto::GetRunResponse>, Status> {
        self.may(&mut request, Operation::View, |request| check::run_name("name", &request.name)).await?;
        self.service.get_run(request).await
    }

    async fn list_runs(
        &self,
        mut request: Request<proto::ListRunsRequest>,
    ) -> Result<Response<proto::ListRunsResponse>, Status> {
        self.admit(&mut request).await?.allows(Operation::View).map_err(status)?;
        self.service.list_runs(request).await
    }

    type WatchRunStream = Answers<proto::WatchRunResponse>;

    async fn watch_run(
        &self,
        mut request: Request<proto::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let run = |request: &proto::WatchRunRequest| check::run_name("name", &request.name);
        let access = self.may(&mut request, Operation::View, run).await?;
        Ok(self.service.watch_run(request).await?.map(|answers| until_it_ends(answers, access)))
    }

    async fn end_run(
        &self,
        mut request: Request<proto::EndRunRequest>,
    ) -> Result<Response<proto::EndRunResponse>, Status> {
        self.may(&mut request, Operation::End, |request| check::run_name("name", &request.name)).await?;
        self.service.end_run(request).await
    }

    async fn delete_run(
        &self,
        mut request: Request<proto::DeleteRunRequest>,
    ) -> Result<Response<proto::DeleteRunResponse>, Status> {
        self.may(&mut request, Operation::Delete, |request| check::run_name("name", &request.name)).await?;
        self.service.delete_run(request).await
    }

    // Who may create a run gets its credential.
    async fn rotate_credential(
        &self,
        mut request: Request<proto::RotateCredentialRequest>,
    ) -> Result<Response<proto::RotateCredentialResponse>, Status> {
        let run = |request: &proto::RotateCredentialRequest| check::run_name("name", &request.name);
        self.may(&mut request, Operation::Create, run).await?;
        self.service.rotate_credential(request).await
    }

    async fn revoke_credential(
        &self,
        mut request: Request<proto::RevokeCredentialRequest>,
    ) -> Result<Response<proto::RevokeCredentialResponse>, Status> {
        let run = |request: &proto::RevokeCredentialRequest| check::run_name("name", &request.name);
        self.may(&mut request, Operation::End, run).await?;
        self.service.revoke_credential(request).await
    }

    async fn list_credentials(
        &self,
        mut request: Request<proto::ListCredentialsRequest>,
    ) -> Result<Response<proto::ListCredentialsResponse>, Status> {
        self.admit(&mut request).await?.allows(Operation::Create).map_err(status)?;
        self.service.list_credentials(request).await
    }
}

#[tonic::async_trait]
impl<S: CommandService<WatchCommandStream = Answers<proto::WatchCommandResponse>>> CommandService
    for Guarded<S>
{
    async fn send_command(
        &self,
        mut request: Request<proto::SendCommandRequest>,
    ) -> Result<Response<proto::SendCommandResponse>, Status> {
        let operation = action(request.get_ref());
        self.may(&mut request, operation, |request| check::run_name("parent", &request.parent)).await?;
        self.service.send_command(request).await
    }

    async fn execute_command(
        &self,
        mut request: Request<proto::ExecuteCommandRequest>,
    ) -> Result<Response<proto::ExecuteCommandResponse>, Status> {
        let operation = request.get_ref().request.as_ref().map_or(Operation::Control("custom"), action);
        let run = |request: &proto::ExecuteCommandRequest| {
            check::run_name("parent", request.request.as_ref().map_or("", |request| &request.parent))
        };
        let access = self.may(&mut request, operation, run).await?;
        tokio::select! {
            answer = self.service.execute_command(request) => answer,
            denied = access.ends() => Err(status(denied)),
        }
    }

    type WatchCommandStream = Answers<proto::WatchCommandResponse>;

    async fn watch_command(
        &self,
        mut request: Request<proto::WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        let access = self.may(&mut request, Operation::View, |request| command_of(&request.name)).await?;
        Ok(self.service.watch_command(request).await?.map(|answers| until_it_ends(answers, access)))
    }

    async fn get_command(
        &self,
        mut request: Request<proto::GetCommandRequest>,
    ) -> Result<Response<proto::GetCommandResponse>, Status> {
        self.may(&mut request, Operation::View, |request| command_of(&request.name)).await?;
        self.service.get_command(request).await
    }

    async fn list_commands(
        &self,
        mut request: Request<proto::ListCommandsRequest>,
    ) -> Result<Response<proto::ListCommandsResponse>, Status> {
        self.may(&mut request, Operation::View, |request| check::run_name("parent", &request.parent)).await?;
        self.service.list_commands(request).await
    }

    async fn cancel_command(
        &self,
        mut request: Request<proto::CancelCommandRequest>,
    ) -> Result<Response<proto::CancelCommandResponse>, Status> {
        let operation = Operation::Control("cancel");
        self.may(&mut request, operation, |request| command_of(&request.name)).await?;
        self.service.cancel_command(request).await
    }
}

#[tonic::async_trait]
impl<S: TokenService> TokenService for Guarded<S> {
    async fn revoke_token(
        &self,
        mut request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        self.admit(&mut request).await?.allows(Operation::Revoke).map_err(status)?;
        self.service.revoke_token(request).await
    }
}
