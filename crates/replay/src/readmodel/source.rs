//! Where read models are folded from: a run's lanes, in the archive and in Redis.

use std::collections::BTreeMap;

use runcast_bus::{Bus, Found, Item, LaneReader, LaneState, Scan};
use runcast_protocol::{Channel, Cursor, Lane, RunId};

use super::summary::Summary;
use crate::archive::ArchivedRun;
use crate::error::Error;

/// What a page costs beside its messages, counted in messages: each is a question to Redis.
const PAGE_COST: usize = 500;

/// A run's lanes, in the archive and in Redis.
#[derive(Debug)]
pub(super) struct Source {
    bus: Bus,
    run: RunId,
    archived: Option<ArchivedRun>,
    /// How far the shared streams were searched for each lane.
    scans: BTreeMap<Lane, Scan>,
}

impl Source {
    pub(super) fn new(bus: Bus, run: RunId, archived: Option<ArchivedRun>) -> Self {
        Self { bus, run, archived, scans: BTreeMap::new() }
    }

    /// Folds in what comes next, not beyond `upto`, lane by lane in turn, until about `budget`
    /// messages are read. Returns whether there may be more to read now.
    pub(super) async fn advance(
        &mut self,
        summary: &mut Summary,
        upto: &Cursor,
        budget: usize,
    ) -> Result<bool, Error> {
        let behind = upto.lanes().filter(|(lane, last)| summary.cursor().position(lane) < *last);
        let mut waiting: Vec<Option<LaneReader>> = Vec::new();
        for (lane, _) in behind {
            let scan = self.scans.get(&lane).copied().unwrap_or_default();
            let position = summary.cursor().position(&lane);
            waiting.push(Some(LaneReader::new(lane, position, scan)));
        }
        let mut spent = 0;
        while waiting.iter().any(Option::is_some) {
            for slot in &mut waiting {
                let Some(mut reader) = slot.take() else { continue };
                if spent >= budget {
                    return Ok(true);
                }
                let (more, messages) = self.page(&mut reader, summary, upto).await?;
                spent += PAGE_COST + messages;
                *slot = more.then_some(reader);
            }
        }
        Ok(false)
    }

    /// Folds in a page of a lane; whether there is more, and how many messages it had.
    async fn page(
        &mut self,
        reader: &mut LaneReader,
        summary: &mut Summary,
        upto: &Cursor,
    ) -> Result<(bool, usize), Error> {
        let lane = reader.lane().clone();
        let (position, last) = (summary.cursor().position(&lane), upto.position(&lane));
        if let Some(archived) = &self.archived
            && archived.cursor().position(&lane) > position
        {
            let mut entries = archived.after(&lane, position).await?;
            entries.retain(|entry| entry.sequence <= last);
            if !entries.is_empty() {
                summary.apply(&lane, &entries);
                *reader = LaneReader::new(lane.clone(), summary.cursor().position(&lane), reader.scan());
                return Ok((reader.position() < last, entries.len()));
            }
        }
        let Found::Items(items) = reader.page(&self.bus, &self.run, last).await? else {
            return Ok((false, 0));
        };
        let messages = items.len();
        for item in items {
            match item {
                Item::Message(entry) => summary.apply(&lane, std::slice::from_ref(&entry)),
                Item::Gap(gap) => summary.skip(&lane, gap.last),
            }
        }
        let more = reader.position() < last;
        if !lane.channel.has_one_writer() {
            self.scans.insert(lane, reader.scan());
        }
        Ok((more, messages))
    }
}

/// Where lanes stand.
pub(super) fn cursor(lanes: &BTreeMap<Lane, LaneState>) -> Cursor {
    lanes.iter().map(|(lane, at)| (lane.clone(), at.last)).collect()
}

/// The output lanes of a cursor.
pub(super) fn outputs(cursor: &Cursor) -> impl Iterator<Item = Lane> + '_ {
    cursor.lanes().map(|(lane, _)| lane).filter(|lane| lane.channel == Channel::Output)
}
