//! One lane's history, backwards.

use jiff::Timestamp;
use runcast_protocol::{Gap, GapReason, Lane, Sequence};

use crate::error::Error;
use crate::history::reading::timed;
use crate::history::{Chunk, RunHistory, Timed};

/// Messages of a lane with one writer that are read from Redis at once.
const WINDOW: u64 = 1000;

/// A lane's messages, the last ones first.
#[derive(Debug)]
pub(super) struct BackwardLane {
    run: RunHistory,
    lane: Lane,
    first: Sequence,
    upto: Sequence,
}

impl BackwardLane {
    /// The messages from `upto` back to `first`.
    pub(super) fn new(run: &RunHistory, lane: Lane, first: Sequence, upto: Sequence) -> Self {
        let upto = upto.min(run.end().position(&lane));
        Self { run: run.clone(), lane, first: first.max(Sequence::NONE.next()), upto }
    }

    /// The messages before those of the last call, the last one first; none at the beginning. Times
    /// are [`mirrored`].
    ///
    /// # Errors
    /// If archive or Redis cannot be read.
    pub(super) async fn next(&mut self, times: bool) -> Result<Option<Vec<Timed>>, Error> {
        if self.upto < self.first {
            return Ok(None);
        }
        let chunks = match &self.run.archived {
            Some(archived) if self.upto <= self.run.archived_upto(&self.lane) => {
                let mut entries = archived.upto(&self.lane, self.upto).await?;
                entries.retain(|entry| (self.first..=self.upto).contains(&entry.sequence));
                vec![Chunk { gap: None, entries }]
            }
            _ => self.read_redis().await?,
        };
        let mut said: Vec<Timed> = chunks.into_iter().flat_map(|chunk| timed(chunk, times)).collect();
        let sequence = |said: &Timed| said.entry.as_ref().map(|entry| entry.sequence);
        let last = said.iter().filter_map(sequence).next_back().unwrap_or(self.first.previous());
        if last < self.upto {
            let gap = Gap {
                lane: self.lane.clone(),
                first: last.next(),
                last: self.upto,
                reason: GapReason::Trimmed,
            };
            said.retain(|said| said.entry.is_some());
            said.push(Timed { time: Timestamp::MIN, gap: Some(gap), entry: None });
        }
        let begin = |said: &Timed| said.gap.as_ref().map(|gap| gap.first).or_else(|| sequence(said));
        self.upto = said.iter().find_map(begin).unwrap_or(self.first).previous();
        for message in &mut said {
            message.time = mirrored(message.time);
        }
        said.reverse();
        Ok(Some(said))
    }

    async fn read_redis(&self) -> Result<Vec<Chunk>, Error> {
        let archived = self.run.archived_upto(&self.lane);
        let begin = self.first.previous().max(archived);
        // Where several write to a stream, a place in it can only be found by reading it.
        let window = Sequence::new(self.upto.get().saturating_sub(WINDOW)).unwrap_or(Sequence::NONE);
        let after = if self.lane.channel.has_one_writer() { begin.max(window) } else { begin };
        let mut lane = self.run.lane(self.lane.clone(), after, self.upto);
        let mut chunks = Vec::new();
        while let Some(chunk) = lane.next().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

/// A time as far before 1970 as it was after: what orders forwards then orders backwards.
fn mirrored(time: Timestamp) -> Timestamp {
    if time == Timestamp::MIN {
        return time;
    }
    Timestamp::from_microsecond(-time.as_microsecond()).unwrap_or(Timestamp::MIN)
}
