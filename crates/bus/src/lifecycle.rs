//! A run as a whole: what tells those who watch all runs, how long it is kept, and its deletion.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{KeysInterface, StreamsInterface};
use fred::types::Value;
use runcast_protocol::{Channel, Lane, RunId, VariationId, Writer, keys};

use crate::{Bus, BusError, EntryId, LaneState, Limits};

impl Bus {
    /// Tells those who watch all runs of an event in a run's life; returns the entry's ID in its feed.
    /// May be told twice by who repeats it: `event` names the run and what happened.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn tell_lifecycle(
        &self,
        run: &RunId,
        event: Bytes,
        limits: Limits,
    ) -> Result<EntryId, BusError> {
        let feed = keys::feed(fred::util::redis_keyslot(run.as_str().as_bytes()) % keys::FEEDS);
        let limit = ("MAXLEN", "~", i64::try_from(limits.entries).unwrap_or(i64::MAX));
        let id: String = self
            .client()
            .await
            .xadd(&feed, false, limit, "*", vec![("m", Value::from(event.clone()))])
            .await?;
        self.client().await.expire::<(), _>(&feed, seconds(limits.ttl), None).await?;
        self.publish_to(&feed, event).await?;
        id.parse()
    }

    /// Keeps a run's keys for `ttl` from now, those that would be kept for longer: an ended run needs
    /// less than one at work. Returns how many were changed.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; some may have been changed.
    pub async fn retain(&self, run: &RunId, ttl: Duration) -> Result<u64, BusError> {
        let mut changed = 0;
        for key in self.keys_of(run).await? {
            let now: i64 = self.client().await.ttl(&key).await?;
            if now > seconds(ttl) {
                changed += self.client().await.expire::<u64, _>(&key, seconds(ttl), None).await?;
            }
        }
        Ok(changed)
    }

    /// The same, at once or not at all: only if the run's lanes still stand where `lanes` says. False if
    /// somebody wrote meanwhile. For who has stored what they say, and nothing beyond.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn release(
        &self,
        run: &RunId,
        lanes: &BTreeMap<Lane, LaneState>,
        ttl: Duration,
    ) -> Result<bool, BusError> {
        let mut keys = keys_of(run, lanes);
        let first = keys::lanes(run);
        keys.retain(|key| *key != first);
        keys.insert(0, first);
        let mut args: Vec<Value> = vec![seconds(ttl).into()];
        for (lane, state) in lanes {
            args.extend([lane.to_string().into(), state.last.to_string().into()]);
        }
        let reply = self.release_script(keys, args).await?;
        let fields: Vec<String> = reply.clone().convert()?;
        match fields.first().map(String::as_str) {
            Some("OK") => Ok(true),
            Some("MOVED") => Ok(false),
            _ => Err(BusError::Reply(format!("release answered {reply:?}"))),
        }
    }

    /// Deletes all that Redis holds of a run; returns whether there was anything. A sidecar that still
    /// writes to it begins it anew.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn delete_run(&self, run: &RunId) -> Result<bool, BusError> {
        // All in one slot, so at once.
        let deleted: u64 = self.client().await.del(self.keys_of(run).await?).await?;
        Ok(deleted > 0)
    }

    /// All keys that the run may have.
    pub(crate) async fn keys_of(&self, run: &RunId) -> Result<Vec<String>, BusError> {
        Ok(keys_of(run, &self.lanes(run).await?))
    }
}

/// All keys that a run of these lanes may have.
fn keys_of(run: &RunId, lanes: &BTreeMap<Lane, LaneState>) -> Vec<String> {
    let shared = Channel::ALL.into_iter().filter(|channel| !channel.has_one_writer());
    let shared = shared.map(|channel| Lane { channel, writer: Writer::Control });
    let variations: Vec<VariationId> =
        lanes.keys().filter_map(|lane| lane.writer.variation()).cloned().collect();
    let streams = lanes.keys().cloned().chain(shared).map(|lane| keys::stream(run, &lane));
    let leases = variations.iter().map(|variation| keys::lease(run, variation));
    let outputs = lanes.keys().filter(|lane| lane.channel == Channel::Output);
    let snapshots = outputs.map(|lane| keys::snapshot(run, lane));
    let mut keys: Vec<String> = streams.chain(leases).chain(snapshots).collect();
    keys.extend([keys::dead(run), keys::summary(run), keys::lanes(run)]);
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX)
}
