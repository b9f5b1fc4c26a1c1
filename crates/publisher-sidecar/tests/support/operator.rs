//! What the control-plane does to a run, done by hand.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runcast_bus::{Bus, Decided, Decision, Limits, RedisConfig};
use runcast_protocol::{
    Ack, BatchWriter, CommandId, Json, Lane, Message, MessageType, RunId, Sequence, State, Status, Step,
    VariationId, Writer, timestamp,
};
use runcast_testkit::eventually;
use serde_json::{Value, json};

use super::{Lanes, RUN, SOON};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(600), entries: 100_000 };

/// Sends commands as the control-plane does, and reads what becomes of them.
pub struct Operator {
    bus: Bus,
    run: RunId,
    lanes: Lanes,
}

impl Operator {
    pub fn of(url: &str) -> Self {
        let bus = Bus::connect(&RedisConfig::new(url)).expect("an address");
        Self { bus, run: RunId::new(RUN).expect("an id"), lanes: Lanes::of(url) }
    }

    /// Issues a command to variation `a`; its deadline is in half a minute.
    pub async fn issue(&self, id: &str, action: Value) {
        self.issue_to(&["a"], id, action, 30).await;
    }

    /// Issues a command to some variations; its deadline is in so many seconds.
    pub async fn issue_to(&self, variations: &[&str], id: &str, action: Value, seconds: i64) {
        let deadline = Timestamp::now() + SignedDuration::from_secs(seconds);
        let mut content = json!({
            "step": "issued", "command": id, "deadline": timestamp::Text(deadline), "caller": "anna",
        });
        let fields = content.as_object_mut().expect("an object");
        fields.extend(action.as_object().expect("an object").clone());
        let contents: Vec<_> = variations.iter().map(|variation| (*variation, content.clone())).collect();
        assert!(self.decide("control/@control", MessageType::Control, &contents, &[]).await);
    }

    /// Ends a command with a variation, unless its acks lane moved meanwhile.
    pub async fn end(&self, step: Step, id: &str) -> bool {
        let acks: Lane = "acks/a".parse().expect("a lane");
        let stood = self.bus.lanes(&self.run).await.expect("redis answers");
        let at = stood.get(&acks).map_or(Sequence::NONE, |lane| lane.last);
        let content = json!({"step": step.as_str(), "command": id, "acks": at});
        self.decide("control/@control", MessageType::Control, &[("a", content)], &[(acks, at)]).await
    }

    /// Says on behalf of variation `a` where it stands.
    pub async fn declare(&self, state: State) {
        let content = serde_json::to_value(Status::new(state)).expect("JSON");
        assert!(self.decide("status/@control", MessageType::Status, &[("a", content)], &[]).await);
    }

    async fn decide(
        &self,
        lane: &str,
        kind: MessageType,
        contents: &[(&str, Value)],
        read: &[(Lane, Sequence)],
    ) -> bool {
        let lane: Lane = lane.parse().expect("a lane");
        loop {
            let stood = self.bus.lanes(&self.run).await.expect("redis answers");
            let last = stood.get(&lane).map_or(Sequence::NONE, |lane| lane.last);
            let mut batch = BatchWriter::default();
            let mut sequence = last;
            for (variation, content) in contents {
                sequence = sequence.next();
                let message = Message {
                    timestamp: timestamp::now(),
                    run_id: self.run.clone(),
                    variation_id: VariationId::new(variation).expect("an id"),
                    sequence,
                    kind,
                    content: Json::of(content),
                    metadata: Json::empty_object(),
                    writer: Writer::Control,
                    extra: Vec::new(),
                };
                batch.push(&message.to_line());
            }
            let decision = Decision {
                run: self.run.clone(),
                lane: lane.clone(),
                first: last.next(),
                last: sequence,
                batch: batch.finish(usize::MAX),
                read: read.to_vec(),
            };
            match self.bus.decide(decision, LIMITS).await.expect("redis answers") {
                Decided::Done => return true,
                Decided::Moved { lane: moved, .. } if moved == lane => {}
                Decided::Moved { .. } => return false,
            }
        }
    }

    /// What a variation said of a command, in its order.
    pub async fn acks(&self, variation: &str, id: &str) -> Option<Vec<Ack>> {
        let id = CommandId::new(id).expect("an id");
        let messages = self.lanes.messages(&format!("acks/{variation}")).await?;
        let acks = messages.iter().map(|message| message.content.read::<Ack>().expect("an ack"));
        Some(acks.filter(|ack| ack.command == id).collect())
    }

    /// The steps that variation `a` said of a command.
    pub async fn steps(&self, id: &str) -> Vec<Step> {
        self.acks("a", id).await.expect("redis answers").iter().map(|ack| ack.step).collect()
    }

    /// Waits until variation `a` said that a command ended; returns what it said then.
    pub async fn ended(&self, id: &str) -> Ack {
        eventually(&format!("{id} ends"), SOON, async || {
            self.acks("a", id).await?.into_iter().find(|ack| ack.step.is_terminal())
        })
        .await
    }

    /// Waits until variation `a` said `step` of a command.
    pub async fn said(&self, id: &str, step: Step) -> Ack {
        eventually(&format!("{id} is {step}"), SOON, async || {
            self.acks("a", id).await?.into_iter().find(|ack| ack.step == step)
        })
        .await
    }
}
