//! Whether the user that we are to Redis may do what we must.
//!
//! With another part's user a service would start, and only the first viewer or command would show what is wrong: so
//! readiness asks for something that it must be able to do, and most others' users are not. No more than that: users that
//! were made by hand may have fewer rights than ours, at the price of what those are for.

use fred::interfaces::{HashesInterface, KeysInterface};
use fred::types::Value;

use crate::{Bus, BusError};

/// A service, by what its user in Redis may do; see [`AclUser`](crate::AclUser).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `runcast-fanout`.
    Fanout,
    /// `runcast-control`.
    Control,
    /// `runcast-replay`.
    Replay,
}

impl Part {
    /// Its name, as in `runcast acl rules`.
    fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Control => "control",
            Self::Replay => "replay",
        }
    }
}

/// Keys of a run that nobody has: what is asked for is of no interest, only whether one may ask.
const LEASE: &str = "run:{runcast-rights}:lease:x";
const SNAPSHOT: &str = "run:{runcast-rights}:snapshot:x";
const SUMMARY: &str = "run:{runcast-rights}:summary";

impl Bus {
    /// Asks Redis for a sign of life, and whether our user is one for `part`. A server that gives no answer to the
    /// second is none that refuses: in a cluster it may be another one, and that others live is enough to be ready.
    ///
    /// # Errors
    /// [`BusError`] saying why there was no sign of life, or that the user is another's.
    pub async fn ping_as(&self, part: Part) -> Result<(), BusError> {
        let (answer, allowed) = tokio::join!(self.ping(), self.ask_as(part));
        match allowed {
            Err(BusError::Rejected(why)) if why.starts_with("NOPERM") => {
                let (user, name) = (&self.config().username, part.name());
                let said = why.split(" (").next().unwrap_or_default();
                Err(BusError::Rejected(format!(
                    "{said}: {user:?} (redis.username) is not the user for runcast-{name}, see `runcast acl rules {name}`"
                )))
            }
            _ => answer,
        }
    }

    async fn ask_as(&self, part: Part) -> Result<(), BusError> {
        let client = self.client().await;
        let _: Value = match part {
            Part::Fanout => client.hgetall(SNAPSHOT).await?,
            Part::Control => client.mget(LEASE).await?,
            Part::Replay => client.hgetall(SUMMARY).await?,
        };
        Ok(())
    }
}
