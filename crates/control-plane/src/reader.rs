//! Reads what Redis holds of a run into its log.

use std::collections::BTreeMap;

use runcast_bus::{Bus, BusError, EntryId, LaneState};
use runcast_protocol::{Batch, Channel, Lane, Message, RunId, Writer};

use crate::plan::ours;
use crate::run_log::RunLog;

/// Entries of a stream that are read at once.
const PAGE: usize = 256;

/// The channels that the control-plane reads; each is one stream a run.
pub const CHANNELS: [Channel; 3] = [Channel::Control, Channel::Acks, Channel::Status];

/// A run's log, and how far the streams were read for it.
#[derive(Debug, Default)]
pub struct Reader {
    log: RunLog,
    after: BTreeMap<Channel, EntryId>,
    /// Of the control-plane's lanes: another one means that the run was deleted and begun anew.
    epochs: BTreeMap<Lane, u64>,
    /// Whether something was read that nobody was told of, perhaps because who read it was cut short.
    changed: bool,
}

impl Reader {
    /// The log as far as it was read.
    pub fn log(&self) -> &RunLog {
        &self.log
    }

    /// Takes in what was just written, so that it need not be read.
    pub fn apply(&mut self, messages: &[Message]) {
        for message in messages {
            self.log.apply(message);
        }
    }

    /// Reads all that Redis has by now; true if the log has changed since this last said so. One round trip
    /// if nothing is new.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn catch_up(&mut self, bus: &Bus, run: &RunId) -> Result<bool, BusError> {
        let lanes = bus.lanes(run).await?;
        if self.is_astray(&lanes) {
            tracing::info!(%run, "redis no longer has what was read of it; reading anew");
            // Nobody is to see half of it, even if this is cut short.
            let mut anew = Self { changed: true, ..Self::default() };
            anew.read_to(&lanes, bus, run).await?;
            *self = anew;
        } else {
            self.read_to(&lanes, bus, run).await?;
        }
        Ok(std::mem::take(&mut self.changed))
    }

    /// Whether Redis has something else than what was read: a failover lost some of it, or the run was
    /// deleted, and perhaps begun anew.
    fn is_astray(&self, lanes: &BTreeMap<Lane, LaneState>) -> bool {
        let is_behind = |(lane, read)| lanes.get(lane).is_none_or(|at| at.last < read);
        let is_another = |(lane, epoch): (_, &u64)| lanes.get(lane).is_none_or(|at| at.epoch != *epoch);
        self.log.positions().any(is_behind) || self.epochs.iter().any(is_another)
    }

    /// Reads at least as far as the lanes stand.
    async fn read_to(
        &mut self,
        lanes: &BTreeMap<Lane, LaneState>,
        bus: &Bus,
        run: &RunId,
    ) -> Result<(), BusError> {
        for channel in CHANNELS {
            let mut lanes = lanes.iter().filter(|(lane, _)| lane.channel == channel);
            if lanes.any(|(lane, at)| self.log.position(lane) < at.last) {
                self.read(bus, run, channel).await?;
            }
        }
        let known = self.log.variations().len();
        for (lane, at) in lanes {
            self.log.learn_writer(lane);
            if CHANNELS.contains(&lane.channel) && self.log.position(lane) < at.last {
                // Trimmed or evicted: there is nothing to read up to there.
                self.log.learn(lane, at.last);
                self.changed = true;
            }
            if lane.writer == Writer::Control {
                self.epochs.insert(lane.clone(), at.epoch);
            }
        }
        self.changed |= self.log.variations().len() > known;
        Ok(())
    }

    /// Reads a stream on to its end.
    async fn read(&mut self, bus: &Bus, run: &RunId, channel: Channel) -> Result<(), BusError> {
        let after = self.after.entry(channel).or_default();
        loop {
            let page = bus.read(run, &ours(channel), *after, PAGE).await?;
            *after = page.end;
            for batch in page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok()) {
                for entry in batch.entries {
                    if let Ok(message) = Message::parse(&entry.line)
                        && belongs(&message.lane(), channel)
                    {
                        self.changed |= self.log.apply(&message);
                    }
                }
            }
            if page.is_last {
                return Ok(());
            }
        }
    }
}

/// Whether a message of this lane may stand in a channel's stream. Agents can write to some of the streams, and
/// must not speak there as if they had written to another, or for the control-plane where that alone speaks.
fn belongs(lane: &Lane, channel: Channel) -> bool {
    lane.channel == channel && (channel != Channel::Control || lane.writer == Writer::Control)
}
