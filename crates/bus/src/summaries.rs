//! Runs' read models, as the service that folds them keeps them.

use bytes::Bytes;
use fred::interfaces::HashesInterface;
use runcast_protocol::{Channel, Cursor, RunId, keys};

use crate::{Bus, BusError};

/// What became of a read model that was to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SummaryStored {
    /// It is kept.
    Done,
    /// A newer one is kept.
    Older,
    /// It is of messages that the run does not have: the run was deleted and begun anew, or a tail of it
    /// was lost in a failover and will be sent again.
    Ahead,
}

impl Bus {
    /// The read model of a run that is kept; none if there is none.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn summary(&self, run: &RunId) -> Result<Option<Bytes>, BusError> {
        Ok(self.client().await.hget(keys::summary(run), "summary").await?)
    }

    /// Keeps a run's read model, into which the messages up to `cursor` are folded, and as long as the run
    /// its snapshots.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn store_summary(
        &self,
        run: &RunId,
        cursor: &Cursor,
        summary: Bytes,
    ) -> Result<SummaryStored, BusError> {
        let total = cursor.lanes().fold(0, |total: u64, (_, at)| total.saturating_add(at.get()));
        let mut keys = vec![keys::summary(run), keys::lanes(run)];
        let mut args = vec![total.to_string().into(), summary.into()];
        for (lane, position) in cursor.lanes() {
            if lane.channel == Channel::Output {
                keys.push(keys::snapshot(run, &lane));
            }
            args.extend([lane.to_string().into(), position.to_string().into()]);
        }
        let reply = self.summary_script(keys, args).await?;
        let fields: Vec<String> = reply.clone().convert()?;
        match fields.first().map(String::as_str) {
            Some("OK") => Ok(SummaryStored::Done),
            Some("OLDER") => Ok(SummaryStored::Older),
            Some("AHEAD") => Ok(SummaryStored::Ahead),
            _ => Err(BusError::Reply(format!("summary answered {reply:?}"))),
        }
    }
}
