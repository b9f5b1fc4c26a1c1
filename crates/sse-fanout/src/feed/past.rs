//! A feed of a run that Redis knows nothing of: perhaps the archive does.

use std::collections::BTreeMap;
use std::sync::Arc;

use runcast_bus::LaneState;
use runcast_protocol::{Channel, Lane, PastRun, RunState, Sequence};

use super::Feed;
use crate::run_info::read_state;
use crate::tracker::Tracker;

impl Feed {
    /// Asks what is archived of the run, for a view that is being opened. If the run begins in Redis
    /// meanwhile, that wins.
    pub(super) async fn look_back(&mut self) {
        if let Some(past) = self.archived.known() {
            return self.adopt(past).await;
        }
        self.archived.ask(&self.context.bus, &self.run);
        while self.archived.is_asked() {
            tokio::select! {
                biased;
                past = self.archived.answer() => {
                    if let Some(past) = past && self.is_unknown_to_redis().await {
                        self.adopt(past).await;
                    }
                }
                // Not taken in: whoever says something is found in Redis with it.
                _ = self.inbox.next() => if !self.is_unknown_to_redis().await {
                    return;
                },
            }
        }
    }

    /// Takes in an answer that came after views were opened without it. If it tells what Redis knows
    /// nothing of, their viewers come back and find the run as it is.
    pub(super) async fn look_again(&mut self, past: Option<Arc<PastRun>>) {
        let Some(past) = past else { return };
        if !self.tracker.is_empty() {
            match read_state(&self.context.bus, &self.run, RunState::recalled(&past)).await {
                Ok(state) => self.state = state,
                Err(error) => tracing::debug!(run = %self.run, %error, "could not read the states"),
            }
            self.may_be_over = true;
        } else if self.is_unknown_to_redis().await {
            self.let_views_go();
            self.adopt(past).await;
        }
    }

    /// Asks the archive for what variations said of their states, if Redis has lost that.
    pub(super) fn look_for_lost_states(&mut self, lanes: &BTreeMap<Lane, LaneState>) {
        let mut status = lanes.iter().filter(|(lane, _)| lane.channel == Channel::Status);
        if status.any(|(lane, at)| self.state.position(lane) < at.last.min(self.passed_on(lane))) {
            self.archived.ask(&self.context.bus, &self.run);
        }
    }

    /// How far a lane was passed on. What comes after that is applied when it is.
    fn passed_on(&self, lane: &Lane) -> Sequence {
        self.tracker.get(lane).map_or(Sequence::MAX, |track| track.position)
    }

    /// Forgets the run that the archive has: another one of that name has begun.
    pub(super) fn begin_anew(&mut self) {
        tracing::info!(run = %self.run, "a run that is archived begins anew");
        self.archived.forget();
        self.pages.forget();
        self.tracker = Tracker::default();
        self.state = RunState::default();
        self.let_views_go();
    }

    /// Takes what is archived for where the run stands. What it said is its viewers' own to read.
    async fn adopt(&mut self, past: Arc<PastRun>) {
        for (lane, position) in past.cursor.lanes() {
            if self.channels.contains(&lane.channel) {
                self.tracker.follow(lane, position);
            }
        }
        if self.archived.known().is_none() {
            self.state = RunState::recalled(&past);
            self.archived.learn(past);
        }
        self.may_be_over = true;
        // It may go on in Redis.
        self.subscribe(&[]).await;
    }

    async fn is_unknown_to_redis(&mut self) -> bool {
        // If Redis cannot be asked, the next check finds a run that has begun.
        self.refresh().await.is_ok_and(|lanes| lanes.is_empty())
    }

    fn let_views_go(&mut self) {
        for view in self.views.drain(..) {
            view.let_go();
        }
    }
}
