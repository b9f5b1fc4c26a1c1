//! Writing lanes without a sidecar, through the bus.

use std::collections::HashMap;

use runcast_bus::{Append, Appended, Bus, Limits, RedisConfig};
use runcast_protocol::{
    BatchWriter, Channel, Json, Lane, Message, RunId, Sequence, State, Status, VariationId, Writer, timestamp,
};

/// What tests keep.
const LIMITS: Limits = Limits { ttl: std::time::Duration::from_secs(600), entries: 1_000_000 };

/// Writes the lanes of one variation, as its sidecar would.
#[derive(Debug)]
pub struct Pen {
    bus: Bus,
    run: RunId,
    variation: VariationId,
    /// Lane → last sequence and epoch.
    lanes: HashMap<Channel, (Sequence, u64)>,
    /// Length limit of the streams, in entries.
    pub limits: Limits,
}

impl Pen {
    /// A writer of a run's variation.
    pub fn new(redis_url: &str, run: &str, variation: &str) -> Self {
        let bus = Bus::connect(&RedisConfig::new(redis_url)).expect("an address");
        let (run, variation) = (RunId::new(run).expect("an id"), VariationId::new(variation).expect("an id"));
        Self { bus, run, variation, lanes: HashMap::new(), limits: LIMITS }
    }

    /// The bus it writes through.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Says something.
    pub async fn say(&mut self, text: &str) {
        self.write(Channel::Output, &[Json::string(text)]).await;
    }

    /// Tells a state.
    pub async fn state(&mut self, state: State) {
        self.status(&Status::new(state)).await;
    }

    /// Tells a status.
    pub async fn status(&mut self, status: &Status) {
        self.write(Channel::Status, &[Json::of(status)]).await;
    }

    /// Appends one batch with these contents.
    ///
    /// # Panics
    /// If Redis does not take it.
    pub async fn write(&mut self, channel: Channel, contents: &[Json]) {
        let lane = Lane::of(channel, &self.variation);
        if !self.lanes.contains_key(&channel) {
            let Appended::Done { last, epoch } =
                self.bus.claim(&self.run, &lane, self.limits).await.expect("a claim")
            else {
                panic!("a claim is always granted")
            };
            self.lanes.insert(channel, (last, epoch));
        }
        let (last, epoch) = self.lanes.get_mut(&channel).expect("claimed");
        let (after, first) = (*last, last.next());
        let mut writer = BatchWriter::default();
        for content in contents {
            *last = last.next();
            writer.push(&message(&self.run, &self.variation, channel, *last, content.clone()).to_line());
        }
        let (run, epoch, last) = (self.run.clone(), *epoch, *last);
        let append = Append { run, lane, epoch, first, last, batch: writer.finish(4096), after };
        let outcome = self.bus.append(append, self.limits).await.expect("an append");
        assert_eq!(outcome, Appended::Done { last, epoch });
    }
}

/// A message as a sidecar makes it.
pub fn message(
    run: &RunId,
    variation: &VariationId,
    channel: Channel,
    sequence: Sequence,
    content: Json,
) -> Message {
    Message {
        timestamp: timestamp::now(),
        run_id: run.clone(),
        variation_id: variation.clone(),
        sequence,
        kind: channel.message_type(),
        content,
        metadata: Json::empty_object(),
        writer: Writer::Variation(variation.clone()),
        extra: Vec::new(),
    }
}
