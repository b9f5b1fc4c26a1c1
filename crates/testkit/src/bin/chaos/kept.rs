//! What Redis still holds of each lane: the only reason there is for a gap.

use std::collections::BTreeMap;

use runcast_bus::{Bus, EntryId, RedisConfig};
use runcast_protocol::{Batch, Lane, RunId, Sequence};

use crate::agents::RUN;

/// The first message of each lane that Redis still holds. What came before it was trimmed or evicted,
/// and whoever did not see it in time was told of a gap with good reason. Streams lose their beginning
/// only, so this never moves back.
#[derive(Debug, Default)]
pub(crate) struct Kept(BTreeMap<Lane, Sequence>);

impl Kept {
    /// Asks Redis.
    pub(crate) async fn ask(config: &RedisConfig) -> Self {
        let run = RunId::new(RUN).unwrap();
        let bus = Bus::connect(config).unwrap();
        let mut kept = BTreeMap::new();
        for (lane, at) in bus.lanes(&run).await.unwrap() {
            let first = first(&bus, &run, &lane).await;
            // Nothing is left of it: all was lost.
            kept.insert(lane, first.unwrap_or_else(|| at.last.next()));
        }
        Self(kept)
    }

    /// Whether messages of a lane up to `last` are gone from Redis.
    pub(crate) fn lacks(&self, lane: &Lane, last: Sequence) -> bool {
        self.0.get(lane).is_none_or(|first| last < *first)
    }
}

async fn first(bus: &Bus, run: &RunId, lane: &Lane) -> Option<Sequence> {
    let mut after = EntryId::default();
    loop {
        let page = bus.read(run, lane, after, 100).await.unwrap();
        let mut batches = page.batches.into_iter().map(|batch| Batch::parse(batch).expect("a batch"));
        if let Some(batch) = batches.find(|batch| batch.lane == *lane) {
            return Some(batch.first());
        }
        if page.is_last {
            return None;
        }
        after = page.end;
    }
}
