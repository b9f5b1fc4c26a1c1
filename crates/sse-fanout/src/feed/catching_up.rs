//! What pub/sub did not bring, and the end of a run.

use runcast_bus::{Found, Incoming, Item, LaneReader};
use runcast_protocol::Lane;

use super::Feed;
use crate::view::View;

impl Feed {
    /// Reads from the streams what is missing, lane by lane in turn, and takes in between what
    /// arrives meanwhile. What Redis has lost is not waited for here, where everybody would wait: viewers
    /// that lie behind the ring ask for it, each at its own pace.
    pub(super) async fn catch_up(&mut self) {
        while let Some((lane, upto)) = self.tracker.behind() {
            let Some(track) = self.tracker.get(&lane) else { continue };
            let mut reader = LaneReader::new(lane.clone(), track.position, track.scan);
            self.context.metrics.backfills.add(1, &[]);
            match reader.page_of_redis(&self.context.bus, &self.run, upto).await {
                Ok(Found::Items(items)) => {
                    self.tracker.advance(&lane, reader.position(), reader.scan());
                    self.pass_on_items(&lane, items);
                    self.flush();
                }
                Ok(Found::NotYet) => self.tracker.give_up(&lane),
                Err(error) => {
                    tracing::debug!(run = %self.run, %lane, %error, "could not read the stream; trying at the next check");
                    self.tracker.give_up(&lane);
                }
            }
            while let Some(incoming) = self.inbox.try_next() {
                if let Incoming::Payload(payload) = incoming {
                    // Boxed: a delivery may find a new lane, which asks Redis.
                    Box::pin(self.deliver(payload)).await;
                } else {
                    self.check().await;
                }
            }
        }
    }

    fn pass_on_items(&mut self, lane: &Lane, items: Vec<Item>) {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Message(entry) => entries.push(entry),
                Item::Gap(gap) => {
                    self.pass_on(lane, &std::mem::take(&mut entries));
                    self.pass_on_gap(&gap);
                }
            }
        }
        self.pass_on(lane, &entries);
    }

    /// Ends the views whose variations have all ended, once everything they said was passed on.
    /// Sidecars write the terminal status after all else is in Redis, so what Redis counts after
    /// reading that status is all there is.
    pub(super) async fn settle(&mut self) {
        if !std::mem::take(&mut self.may_be_over) || !self.views.iter().any(|view| self.has_ended(view)) {
            return;
        }
        let last = match self.refresh().await {
            Ok(lanes) => lanes,
            Err(error) => {
                return tracing::debug!(run = %self.run, %error, "could not make sure of the end; trying at the next check");
            }
        };
        self.catch_up().await;
        for view in self.views.iter().filter(|view| self.has_ended(view)) {
            let mut chosen = last.iter().filter(|(lane, _)| view.selection().has_lane(lane));
            let complete = chosen
                .all(|(lane, at)| self.tracker.get(lane).is_some_and(|track| track.position >= at.last));
            if complete && let Some(end) = self.state.end(&self.run, view.selection()) {
                view.push_end(&end);
                view.flush();
            }
        }
    }

    fn has_ended(&self, view: &View) -> bool {
        !view.is_over() && self.state.end(&self.run, view.selection()).is_some()
    }
}
