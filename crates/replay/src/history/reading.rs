//! Reading several lanes of a run in one order.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use runcast_protocol::{Cursor, Lane, Sequence};

use crate::error::Error;
use crate::history::backwards::BackwardLane;
use crate::history::{Chunk, LaneHistory, Merge, RunHistory, Said, Timed};

/// Reads several lanes of a run in one order, forwards or backwards.
#[derive(Debug)]
pub struct Reading {
    lanes: Vec<Source>,
    merge: Merge,
    /// Whether times must be read: not with one lane, whose order is its own.
    timed: bool,
    cursor: Cursor,
}

/// What comes next.
#[derive(Debug)]
pub struct Next {
    /// The lane it is in.
    pub lane: Lane,
    /// The message, or what is missing.
    pub said: Timed,
}

#[derive(Debug)]
enum Source {
    Forward(LaneHistory),
    Backward(BackwardLane),
}

/// What to read of each lane: the sequences from the first to the last.
pub type Span = (Sequence, Sequence);

impl Reading {
    /// Reads `lanes` after `cursor`, within `span`. Without `timed`, times are read only where several
    /// lanes must be put in order.
    pub fn forwards(run: &RunHistory, lanes: Vec<Lane>, cursor: Cursor, span: Span, timed: bool) -> Self {
        let source = |lane: Lane| {
            let after = cursor.position(&lane).max(span.0.previous());
            Source::Forward(run.lane(lane, after, span.1))
        };
        let (merge, timed) = (Merge::new(lanes.iter().cloned()), timed || lanes.len() > 1);
        Self { lanes: lanes.into_iter().map(source).collect(), merge, timed, cursor }
    }

    /// Reads `lanes` backwards, beginning with the last message that `cursor` covers, within `span`.
    pub fn backwards(run: &RunHistory, lanes: Vec<Lane>, cursor: Cursor, span: Span) -> Self {
        let source = |lane: Lane| {
            let upto = cursor.position(&lane).min(span.1);
            Source::Backward(BackwardLane::new(run, lane, span.0, upto))
        };
        let (merge, timed) = (Merge::new(lanes.iter().cloned()), lanes.len() > 1);
        Self { lanes: lanes.into_iter().map(source).collect(), merge, timed, cursor }
    }

    /// Where each lane stands after what was read; going backwards, before it.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The next message or gap; none at the end.
    ///
    /// # Errors
    /// If archive or Redis cannot be read.
    pub async fn next(&mut self) -> Result<Option<Next>, Error> {
        self.fill().await?;
        let Some((index, lane, said)) = self.merge.pop() else { return Ok(None) };
        let (entry, gap) = (said.entry.as_ref(), said.gap.as_ref());
        let position = match &self.lanes[index] {
            Source::Forward(_) => entry.map(|entry| entry.sequence).or(gap.map(|gap| gap.last)),
            Source::Backward(_) => {
                gap.map(|gap| gap.first).or(entry.map(|entry| entry.sequence)).map(Sequence::previous)
            }
        };
        let lane = lane.clone();
        if let Some(position) = position {
            self.cursor.set(&lane, position);
        }
        Ok(Some(Next { lane, said }))
    }

    /// Reads on in the lanes of which nothing is at hand.
    async fn fill(&mut self) -> Result<(), Error> {
        let wanted: Vec<usize> = self.merge.wanted().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (lanes, times) = (self.lanes.iter_mut().enumerate(), self.timed);
        let read = lanes
            .filter(|(index, _)| wanted.contains(index))
            .map(|(index, lane)| async move { Ok::<_, Error>((index, lane.next(times).await?)) });
        for (index, said) in try_join_all(read).await? {
            match said {
                Some(said) => self.merge.extend(index, said),
                None => self.merge.end(index),
            }
        }
        Ok(())
    }
}

impl Source {
    async fn next(&mut self, times: bool) -> Result<Option<Vec<Timed>>, Error> {
        match self {
            Self::Forward(lane) => Ok(lane.next().await?.map(|chunk| timed(chunk, times).collect())),
            Self::Backward(lane) => lane.next(times).await,
        }
    }
}

/// A chunk's messages with their times. One whose time is not read stands with the one before it.
pub(super) fn timed(chunk: Chunk, times: bool) -> impl Iterator<Item = Timed> {
    let Chunk { mut gap, entries } = chunk;
    let alone = if entries.is_empty() { gap.take() } else { None };
    let alone = alone.map(|gap| Timed { time: Timestamp::MIN, gap: Some(gap), entry: None });
    let said = entries.into_iter().map(move |entry| {
        let time = if times { Said::read(&entry.line).map(|said| said.timestamp.0) } else { None };
        Timed { time: time.unwrap_or(Timestamp::MIN), gap: gap.take(), entry: Some(entry) }
    });
    alone.into_iter().chain(said)
}
