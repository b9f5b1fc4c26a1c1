//! The Redis users of runs: one for the sidecars of each, on every server.
//!
//! What should be stands in Redis ([`Credential`], by run); each replica of the control plane brings each server into
//! line with it ([`Keeper`]). All of that may be done twice, so that none of them needs to know of another.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use runcast_bus::{AclUser, Bus, BusError, NodeAddress, Nodes};
use runcast_protocol::{RunId, Secret};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::config::AclConfig;
use crate::credential::{Credential, Seconds};
use crate::metrics::Metrics;
use crate::user_diff::{Change, Why};
use crate::user_keeper::Keeper;

/// How long a call waits for servers to know a user; those that do not by then learn of it later.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replicas may write at the same time; more often than this in a row is no coincidence.
const ATTEMPTS: usize = 10;

/// Looks after the users. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Users {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bus: Bus,
    nodes: Nodes,
    config: AclConfig,
    metrics: Metrics,
    keepers: Mutex<BTreeMap<NodeAddress, Kept>>,
    /// What stood in Redis when we last looked, for when it is lost there.
    seen: Mutex<BTreeMap<RunId, String>>,
}

#[derive(Debug)]
struct Kept {
    keeper: Arc<Keeper>,
    _task: AbortOnDropHandle<()>,
}

/// A password that was just made; nobody keeps it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The Redis user.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// What is known of it.
    pub credential: Credential,
}

impl Users {
    /// Looks after nothing yet.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub fn connect(bus: &Bus, config: AclConfig, metrics: Metrics) -> Result<Self, BusError> {
        let nodes = Nodes::connect(bus)?;
        let (keepers, seen) = (Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { bus: bus.clone(), nodes, config, metrics, keepers, seen }) })
    }

    /// Follows the topology, and ends what expires, for ever.
    pub async fn keep(self) {
        let mut tick = interval(self.shared.config.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let outcome = match self.shared.follow_topology().await {
                Ok(()) => self.shared.expire().await,
                Err(error) => Err(error),
            };
            let failed = outcome.is_err();
            if let Err(error) = outcome
                && !failing
            {
                tracing::warn!(%error, "could not look after the users of runs; trying again");
            }
            failing = failed;
        }
    }

    /// Gives a run its first credential. None if it has one, whose password nobody knows any more; unless the run is
    /// `new`: then that was of another run of this name.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; it may have one then.
    pub async fn issue(&self, run: &RunId, new: bool) -> Result<Option<Issued>, BusError> {
        let (password, sha256) = password();
        let first = Credential::new(sha256, after(self.shared.config.lifetime));
        let kept = self
            .shared
            .update(run, |before| Some(before.filter(|_| !new).unwrap_or_else(|| first.clone())))
            .await?;
        if kept.as_ref() != Some(&first) {
            return Ok(None);
        }
        Ok(Some(self.hand_out(run, password, first, Why::OldPassword).await))
    }

    /// Gives a run another credential, or a first one; none if the run is over, and what it had has expired.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; both may be good then.
    pub async fn rotate(&self, run: &RunId) -> Result<Option<Issued>, BusError> {
        let config = self.shared.config;
        let (password, sha256) = password();
        let why = if config.overlap.is_zero() { Why::OldPassword } else { Why::Password };
        let credential = self
            .shared
            .update(run, |before| {
                let until = after(config.lifetime);
                let rotated = match before {
                    Some(before) => before.rotated(sha256.clone(), after(config.overlap), until),
                    None => Credential::new(sha256.clone(), until),
                };
                rotated.at(now())
            })
            .await?;
        match credential {
            Some(credential) => Ok(Some(self.hand_out(run, password, credential, why).await)),
            None => Ok(None),
        }
    }

    /// Takes a run its credential, and cuts its connections.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn revoke(&self, run: &RunId) -> Result<(), BusError> {
        self.shared.update(run, |_| None).await?;
        self.shared.everywhere(Change::Delete { name: AclUser::name_of(run) }).await;
        Ok(())
    }

    /// The run is over, or goes on after all.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn run_is_over(&self, run: &RunId, over: bool) -> Result<(), BusError> {
        let until = over.then(|| after(self.shared.config.grace));
        self.shared.update(run, |before| before.map(|before| before.with_over(until))).await.map(drop)
    }

    /// What is known of all runs' credentials.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn list(&self) -> Result<BTreeMap<RunId, Credential>, BusError> {
        let kept = self.shared.bus.credentials().await?.unwrap_or_default();
        Ok(kept.into_iter().filter_map(|(run, kept)| Some((run, Credential::parse(&kept)?))).collect())
    }

    async fn hand_out(&self, run: &RunId, password: Secret, credential: Credential, why: Why) -> Issued {
        self.shared.everywhere(Change::Set { run: run.clone(), sums: credential.sums(), why }).await;
        Issued { username: AclUser::name_of(run), password, credential }
    }
}

impl Shared {
    /// Replaces what is kept of a run, and says what is kept now.
    async fn update(
        &self,
        run: &RunId,
        change: impl Fn(Option<Credential>) -> Option<Credential>,
    ) -> Result<Option<Credential>, BusError> {
        for _ in 0..ATTEMPTS {
            let before = self.bus.credential(run).await?;
            let after = change(before.as_deref().and_then(Credential::parse));
            let same = after.as_ref().map(Credential::to_text) == before;
            if same || self.replace(run, before.as_deref(), after.as_ref()).await? {
                return Ok(after);
            }
        }
        Err(BusError::Refused("too many change this credential at the same time".into()))
    }

    async fn replace(
        &self,
        run: &RunId,
        before: Option<&str>,
        after: Option<&Credential>,
    ) -> Result<bool, BusError> {
        let after = after.map(Credential::to_text);
        let replaced = self.bus.replace_credential(run, before, after.as_deref()).await?;
        if replaced {
            let mut seen = lock(&self.seen);
            match after {
                Some(after) => seen.insert(run.clone(), after),
                None => seen.remove(run),
            };
        }
        Ok(replaced)
    }

    /// Keepers for those servers that there are.
    async fn follow_topology(&self) -> Result<(), BusError> {
        let nodes = self.nodes.all().await?;
        let mut keepers = lock(&self.keepers);
        keepers.retain(|address, _| nodes.contains(address));
        for address in nodes {
            if keepers.contains_key(&address) {
                continue;
            }
            let keeper = Arc::new(Keeper::connect(&self.bus, &address, self.metrics.clone())?);
            let (kept, every) = (keeper.clone(), self.config.interval);
            let task = AbortOnDropHandle::new(tokio::spawn(async move { kept.keep(every).await }));
            keepers.insert(address, Kept { keeper, _task: task });
        }
        Ok(())
    }

    /// Forgets what is good no longer; the keepers see to the rest.
    async fn expire(&self) -> Result<(), BusError> {
        let Some(kept) = self.bus.credentials().await? else { return self.restore().await };
        lock(&self.seen).clone_from(&kept);
        for (run, text) in kept {
            let Some(credential) = Credential::parse(&text) else { continue };
            let left = credential.at(now());
            if left.as_ref() != Some(&credential) && self.replace(&run, Some(&text), left.as_ref()).await? {
                tracing::info!(%run, gone = left.is_none(), "a credential of a run has expired");
            }
        }
        Ok(())
    }

    /// Redis has lost what it kept: emptied, or restarted without a disk.
    async fn restore(&self) -> Result<(), BusError> {
        let seen = lock(&self.seen).clone();
        if !seen.is_empty() && self.bus.restore_credentials(&seen).await? {
            tracing::warn!(runs = seen.len(), "redis had lost the credentials of runs; they are back");
        }
        Ok(())
    }

    /// Changes a user on all servers at once, as far as they answer.
    async fn everywhere(&self, change: Change) {
        if lock(&self.keepers).is_empty()
            && let Err(error) = self.follow_topology().await
        {
            tracing::debug!(%error, "could not ask which servers there are");
        }
        let keepers: Vec<Arc<Keeper>> =
            lock(&self.keepers).values().map(|kept| kept.keeper.clone()).collect();
        let all = keepers.iter().map(|keeper| timeout(PATIENCE, keeper.apply(&change)));
        let outcomes = join_all(all).await;
        let done = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(())))).count();
        if done < outcomes.len() || outcomes.is_empty() {
            let servers = outcomes.len();
            tracing::warn!(done, servers, "some servers do not know of a change to a user yet; trying again");
        }
    }
}

/// 256 random bits, in hex, and their SHA-256.
fn password() -> (Secret, String) {
    let password = hex(&rand::random::<[u8; 32]>());
    let sum = hex(digest(&SHA256, password.as_bytes()).as_ref());
    (password.into(), sum)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn now() -> Seconds {
    Timestamp::now().as_second()
}

fn after(duration: Duration) -> Seconds {
    now().saturating_add(Seconds::try_from(duration.as_secs()).unwrap_or(Seconds::MAX))
}

// A panic while holding the lock leaves a map that works.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
