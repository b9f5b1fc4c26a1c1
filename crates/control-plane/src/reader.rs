//! Reads what Redis holds of a run into its log.

use std::collections::BTreeMap;

use runcast_bus::{Bus, BusError, EntryId};
use runcast_protocol::{Batch, Channel, Message, RunId};

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

    /// Reads all that is new; true if there was any.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn catch_up(&mut self, bus: &Bus, run: &RunId) -> Result<bool, BusError> {
        let mut changed = false;
        loop {
            let lanes = bus.lanes(run).await?;
            let ours = lanes.iter().filter(|(lane, _)| CHANNELS.contains(&lane.channel));
            let (mut behind, mut ahead) = (Vec::new(), false);
            for (lane, at) in ours {
                let read = self.log.position(lane);
                ahead |= read > at.last;
                if read < at.last {
                    behind.push((lane.clone(), at.last));
                }
            }
            if ahead {
                // A failover lost what was read: what Redis has now is the truth.
                tracing::info!(%run, "redis stands behind what was read of it; reading anew");
                *self = Self::default();
                changed = true;
                continue;
            }
            if behind.is_empty() {
                let known = self.log.variations().len();
                for lane in lanes.keys() {
                    self.log.learn_writer(lane);
                }
                return Ok(changed || self.log.variations().len() > known);
            }
            if self.read(bus, run).await? {
                changed = true;
                continue;
            }
            // Trimmed or evicted: there is nothing to read up to there.
            for (lane, last) in behind {
                self.log.learn(&lane, last);
            }
            changed = true;
        }
    }

    /// Reads the streams on to their ends; true if anything new was there.
    async fn read(&mut self, bus: &Bus, run: &RunId) -> Result<bool, BusError> {
        let mut new = false;
        for channel in CHANNELS {
            let after = self.after.entry(channel).or_default();
            loop {
                let page = bus.read(run, &ours(channel), *after, PAGE).await?;
                *after = page.end;
                for batch in page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok()) {
                    for entry in batch.entries {
                        if let Ok(message) = Message::parse(&entry.line) {
                            new |= self.log.apply(&message);
                        }
                    }
                }
                if page.is_last {
                    break;
                }
            }
        }
        Ok(new)
    }
}
