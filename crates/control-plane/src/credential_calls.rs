//! Rotating, revoking and listing credentials of runs' Redis users, as `RunService` offers it.

use jiff::Timestamp;
use runcast_bus::AclUser;
use runcast_protocol::RunId;
use runcast_protocol::grpc::control as proto;

use crate::credential::Seconds;
use crate::error::Refusal;
use crate::runs::Runs;
use crate::users::{Issued, Users};
use crate::{check, convert};

/// A credential as callers see it, this once.
pub(crate) fn shown(issued: Issued) -> proto::Credential {
    proto::Credential {
        username: issued.username,
        password: issued.password.expose().to_owned(),
        expire_time: time(issued.credential.expires()),
    }
}

pub(crate) async fn rotate(runs: &Runs, name: &str) -> Result<proto::RotateCredentialResponse, Refusal> {
    let id = check::run_name("name", name)?;
    let users = managed(runs, name)?;
    runs.open(&id).await?.ok_or_else(|| Refusal::NotFound(format!("runs/{id}")))?;
    let issued = users
        .rotate(&id)
        .await?
        .ok_or_else(|| Refusal::precondition(name, "it is over, and its credential has expired"))?;
    let previous_expire_time = issued.credential.previous.as_ref().and_then(|previous| time(previous.until));
    Ok(proto::RotateCredentialResponse { credential: Some(shown(issued)), previous_expire_time })
}

/// Also of a run that is not there any more.
pub(crate) async fn revoke(runs: &Runs, name: &str) -> Result<proto::RevokeCredentialResponse, Refusal> {
    let id = check::run_name("name", name)?;
    managed(runs, name)?.revoke(&id).await?;
    Ok(proto::RevokeCredentialResponse {})
}

pub(crate) async fn list(
    runs: &Runs,
    covers: impl Fn(&RunId) -> bool,
) -> Result<proto::ListCredentialsResponse, Refusal> {
    let known = managed(runs, "credentials")?.list().await?;
    let known = known.into_iter().filter(|(run, _)| covers(run));
    let credentials = known.map(|(run, credential)| proto::CredentialInfo {
        run: format!("runs/{run}"),
        username: AclUser::name_of(&run),
        expire_time: time(credential.expires()),
        previous_expire_time: credential.previous.and_then(|previous| time(previous.until)),
    });
    Ok(proto::ListCredentialsResponse { credentials: credentials.collect() })
}

fn managed<'a>(runs: &'a Runs, what: &str) -> Result<&'a Users, Refusal> {
    let users = runs.context().users.as_ref();
    users.ok_or_else(|| Refusal::precondition(what, "this control plane does not manage users (acl.manage)"))
}

fn time(seconds: Seconds) -> Option<prost_types::Timestamp> {
    Timestamp::from_second(seconds).ok().map(convert::proto_time)
}
