//! One run's read model in the making.

use std::collections::BTreeMap;

use bytes::Bytes;
use runcast_bus::{LaneState, SummaryStored};
use runcast_protocol::{Cursor, Lane, RunId};

use super::report::RunSummary;
use super::snapshots::Snapshots;
use super::source::{Source, cursor, outputs};
use super::summary::Summary;
use crate::archive::ArchivedRun;
use crate::context::Context;
use crate::error::Error;

/// Messages that are read of one run, about, before the others have their turn.
const TURN: usize = 10_000;

/// One run's read model in the making.
#[derive(Debug)]
pub(super) struct Work {
    run: RunId,
    /// None until it is needed.
    held: Option<Held>,
    /// What was folded in when it was last held.
    seen: Cursor,
    /// The epochs of the run's lanes when it was last looked at.
    epochs: BTreeMap<Lane, u64>,
    /// Whether what is held is not kept in Redis yet.
    unkept: bool,
    /// Whether snapshots are due that there was no time for.
    unwritten: bool,
}

#[derive(Debug)]
struct Held {
    summary: Summary,
    source: Source,
    snapshots: Snapshots,
}

/// What a turn found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turn {
    /// Redis does not know the run any more.
    Gone,
    /// Nothing new.
    Quiet {
        /// Whether the run is over.
        is_over: bool,
    },
    /// Something was folded in.
    Moved {
        /// Whether there is more to read at once.
        more: bool,
    },
}

impl Work {
    pub(super) fn new(run: RunId) -> Self {
        Self {
            run,
            held: None,
            seen: Cursor::default(),
            epochs: BTreeMap::new(),
            unkept: false,
            unwritten: false,
        }
    }

    pub(super) fn run(&self) -> &RunId {
        &self.run
    }

    /// Lets go of what takes memory; it is read again when there is news.
    pub(super) fn rest(&mut self) {
        self.held = None;
        (self.unkept, self.unwritten) = (false, false);
    }

    /// Begins from what is kept.
    pub(super) fn reload(&mut self) {
        *self = Self::new(self.run.clone());
    }

    /// Looks for news and folds it in; a bounded part of it if there is much.
    pub(super) async fn turn(&mut self, context: &Context) -> Result<Turn, Error> {
        let lanes = context.bus.lanes(&self.run).await?;
        if lanes.is_empty() {
            self.reload();
            return Ok(Turn::Gone);
        }
        if self.went_back(&lanes) {
            // It was deleted and begun anew, or a failover lost a tail, that is to come again. Whichever it
            // is: what Redis keeps tells of no more than the run that is there.
            self.reload();
        }
        self.epochs = lanes.iter().map(|(lane, at)| (lane.clone(), at.epoch)).collect();
        let upto = cursor(&lanes);
        let known = context.catalog.get(&self.run);
        if let Some(known) = &known
            && self.seen.covers(&upto)
            && !self.unkept
            && !self.unwritten
        {
            return Ok(Turn::Quiet { is_over: known.state.is_terminal() });
        }
        let held = match &mut self.held {
            Some(held) => held,
            None => self.held.insert(Held::load(context, &self.run, &upto).await?),
        };
        let before = held.summary.total();
        let more = held.source.advance(&mut held.summary, &upto, TURN).await?;
        let moved = held.summary.total() > before;
        self.unkept |= moved;
        self.seen = held.summary.cursor().clone();
        // Told first: a Redis that takes no writes now can still be read.
        let is_archived = context.catalog.is_archived(&self.run);
        let told = context.catalog.put(RunSummary::of(&self.run, &held.summary, is_archived));
        let more = self.keep(context).await? || more;
        Ok(if moved || more {
            Turn::Moved { more }
        } else {
            Turn::Quiet { is_over: told.state.is_terminal() }
        })
    }

    /// Keeps what is held in Redis, and writes snapshots that are due. True if there is more to do: more
    /// snapshots, or another replica was found to be further, and we go on from there.
    async fn keep(&mut self, context: &Context) -> Result<bool, Error> {
        let Some(held) = &mut self.held else { return Ok(false) };
        let mut further = false;
        if self.unkept {
            let text = Bytes::from(held.summary.to_text());
            match context.bus.store_summary(&self.run, held.summary.cursor(), text).await? {
                SummaryStored::Done => self.unkept = false,
                SummaryStored::Older => {
                    self.unkept = false;
                    if let Some(kept) = kept(context, &self.run).await?
                        && kept.total() > held.summary.total()
                    {
                        held.summary = kept;
                        further = true;
                    }
                }
                // A tail that was lost in a failover comes again; in a run that was begun anew the next
                // look at the lanes tells.
                SummaryStored::Ahead => return Ok(false),
            }
        }
        self.unwritten = false;
        for lane in outputs(held.summary.cursor()) {
            self.unwritten |= held.snapshots.advance(&context.bus, &self.run, &lane, &held.summary).await?;
        }
        Ok(further || self.unwritten)
    }

    fn went_back(&self, lanes: &BTreeMap<Lane, LaneState>) -> bool {
        let shorter = !cursor(lanes).covers(&self.seen);
        shorter || self.epochs.iter().any(|(lane, epoch)| lanes.get(lane).is_none_or(|at| at.epoch < *epoch))
    }
}

impl Held {
    /// From what is kept in Redis, or else in the archive, or else from nothing. One that tells of more
    /// than the run has said is of an earlier run of that name, and left.
    async fn load(context: &Context, run: &RunId, upto: &Cursor) -> Result<Self, Error> {
        let mut archived = None;
        let mut summary = kept(context, run).await?.filter(|summary| upto.covers(summary.cursor()));
        if summary.is_none() && context.catalog.is_archived(run) {
            archived = context.archive.run(run).await?.filter(|archived| upto.covers(archived.cursor()));
            let current = archived.as_ref().map(ArchivedRun::summary);
            summary = current.filter(|summary| summary.is_current()).cloned();
        }
        let source = Source::new(context.bus.clone(), run.clone(), archived);
        Ok(Self { summary: summary.unwrap_or_default(), source, snapshots: Snapshots::default() })
    }
}

/// The read model that is kept in Redis, if there is one that this version can read.
pub(super) async fn kept(context: &Context, run: &RunId) -> Result<Option<Summary>, Error> {
    Ok(context.bus.summary(run).await?.and_then(|text| Summary::parse(&text)))
}
