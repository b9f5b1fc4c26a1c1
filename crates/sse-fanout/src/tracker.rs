//! The positions of the lanes that a run's feed passes on. Pure: no clock, no I/O.

use runcast_bus::Scan;

use std::collections::BTreeMap;

use runcast_protocol::{Batch, Cursor, Lane, Placement, Sequence, place};

/// The positions of the lanes that a feed passes on.
///
/// Invariant: a lane's position only grows, and everything up to it was passed on once, in order,
/// or told as a gap.
#[derive(Debug, Default)]
pub struct Tracker {
    lanes: BTreeMap<Lane, Track>,
    /// Where the last backfill ended, so that many lanes take turns.
    turn: Option<Lane>,
}

/// One lane.
#[derive(Debug, Clone, Copy, Default)]
pub struct Track {
    /// Last sequence passed on.
    pub position: Sequence,
    /// Highest sequence known to exist; above `position` the lane is behind.
    known: Sequence,
    /// How far the lane's stream was searched.
    pub scan: Scan,
}

impl Tracker {
    /// Begins to follow a lane after `position`.
    pub fn follow(&mut self, lane: Lane, position: Sequence) {
        self.lanes.entry(lane).or_insert(Track { position, known: position, scan: Scan::default() });
    }

    /// Whether no lane is followed.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether a lane is followed.
    pub fn follows(&self, lane: &Lane) -> bool {
        self.lanes.contains_key(lane)
    }

    /// Where a lane stands, if it is followed.
    pub fn get(&self, lane: &Lane) -> Option<Track> {
        self.lanes.get(lane).copied()
    }

    /// Places a batch that came by pub/sub. What comes next is to be passed on, and counts as such;
    /// a batch that is ahead marks its lane as behind; none if the lane is not followed.
    pub fn offer<'a>(&mut self, batch: &'a Batch) -> Option<Placement<'a>> {
        let track = self.lanes.get_mut(&batch.lane)?;
        let placement = place(track.position, batch);
        match placement {
            Placement::Next(_) => track.position = batch.last(),
            Placement::Ahead | Placement::Duplicate => {}
        }
        track.known = track.known.max(batch.last());
        Some(placement)
    }

    /// Learns that a lane goes at least up to `last`.
    pub fn learn(&mut self, lane: &Lane, last: Sequence) {
        if let Some(track) = self.lanes.get_mut(lane) {
            track.known = track.known.max(last);
        }
    }

    /// The next lane in turn that is behind, and what it should reach.
    pub fn behind(&mut self) -> Option<(Lane, Sequence)> {
        let is_behind = |(_, track): &(&Lane, &Track)| track.known > track.position;
        let after = self.turn.take().and_then(|turn| {
            let mut later = self.lanes.range((std::ops::Bound::Excluded(turn), std::ops::Bound::Unbounded));
            later.find(is_behind)
        });
        let (lane, track) = after.or_else(|| self.lanes.iter().find(is_behind))?;
        self.turn = Some(lane.clone());
        Some((lane.clone(), track.known))
    }

    /// Whether any lane is behind.
    pub fn is_behind(&self) -> bool {
        self.lanes.values().any(|track| track.known > track.position)
    }

    /// Moves a lane to where a backfill brought it.
    pub fn advance(&mut self, lane: &Lane, position: Sequence, scan: Scan) {
        if let Some(track) = self.lanes.get_mut(lane) {
            debug_assert!(position >= track.position, "positions only grow");
            track.position = track.position.max(position);
            track.known = track.known.max(position);
            track.scan = scan;
        }
    }

    /// Stops taking a lane for behind: Redis does not have the rest, at least for now. After a
    /// failover the writer sends it again; until then asking is of no use.
    pub fn give_up(&mut self, lane: &Lane) {
        if let Some(track) = self.lanes.get_mut(lane) {
            track.known = track.position;
        }
    }

    /// The positions of the lanes that `wanted` chooses.
    pub fn cursor(&self, wanted: impl Fn(&Lane) -> bool) -> Cursor {
        let chosen = self.lanes.iter().filter(|(lane, _)| wanted(lane));
        chosen.map(|(lane, track)| (lane.clone(), track.position)).collect()
    }
}
