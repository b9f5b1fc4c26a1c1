//! The read model of one run. Pure.

use std::collections::BTreeMap;

use runcast_protocol::{Cursor, Entry, Lane, Sequence};
use serde::{Deserialize, Serialize};

use super::lane_fold::LaneFold;

/// Version of the form in which summaries are kept. One of another version is folded anew.
const VERSION: u32 = 1;

/// The read model of one run: a fold of its lanes, each in order. The order between lanes does not
/// matter, so it can be folded from pub/sub, from streams or from the archive alike, and two that were
/// folded from the same messages are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    version: u32,
    cursor: Cursor,
    lanes: BTreeMap<Lane, LaneFold>,
}

impl Default for Summary {
    fn default() -> Self {
        Self { version: VERSION, cursor: Cursor::default(), lanes: BTreeMap::new() }
    }
}

impl Summary {
    /// Reads one as it is kept; none if another version wrote it: fold anew then.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().filter(Self::is_current)
    }

    /// Whether this version wrote it.
    pub fn is_current(&self) -> bool {
        self.version == VERSION
    }

    /// As it is kept.
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("summaries are made of JSON types")
    }

    /// How far each lane is folded in.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// How much is folded in: the sum of all positions. It only grows, so of two of the same run the
    /// one with more is the newer.
    pub fn total(&self) -> u64 {
        self.cursor.lanes().map(|(_, position)| position.get()).fold(0, u64::saturating_add)
    }

    /// Messages that could not be had, or could not be read.
    pub fn missing(&self) -> u64 {
        self.lanes.values().map(|lane| lane.missing).fold(0, u64::saturating_add)
    }

    /// Folds in messages of a lane, in order. What was folded in before changes nothing; what was left
    /// out before one of them, or cannot be read, counts as missing.
    pub fn apply(&mut self, lane: &Lane, entries: &[Entry]) {
        let mut position = self.cursor.position(lane);
        for entry in entries {
            if entry.sequence <= position {
                continue;
            }
            let fold = self.fold(lane);
            fold.lose(entry.sequence.get() - position.get() - 1);
            fold.take(lane.channel, entry);
            position = entry.sequence;
        }
        self.cursor.set(lane, position);
    }

    /// The messages of a lane up to and with `upto` can no longer be had.
    pub fn skip(&mut self, lane: &Lane, upto: Sequence) {
        let position = self.cursor.position(lane);
        if upto > position {
            self.fold(lane).lose(upto.get() - position.get());
            self.cursor.set(lane, upto);
        }
    }

    /// Content bytes of a lane.
    pub fn bytes(&self, lane: &Lane) -> u64 {
        self.lanes.get(lane).map_or(0, LaneFold::bytes)
    }

    pub(super) fn lanes(&self) -> &BTreeMap<Lane, LaneFold> {
        &self.lanes
    }

    fn fold(&mut self, lane: &Lane) -> &mut LaneFold {
        // Looked up first: the lane is cloned once, not for each message.
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.clone(), LaneFold::default());
        }
        self.lanes.get_mut(lane).expect("just inserted")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runcast_protocol::{Batch, Entry, Lane, RunState, State};

    use super::*;
    use crate::readmodel::RunSummary;

    fn entry(lane: &str, sequence: u64, second: u64, content: &str, metadata: &str) -> (Lane, Entry) {
        let lane: Lane = lane.parse().unwrap();
        let kind = serde_json::to_string(&lane.channel.message_type()).unwrap();
        let variation = lane.writer.variation().map_or("var-1", |own| own.as_str());
        let writer = if lane.writer.variation().is_none() { r#","writer":"@control""# } else { "" };
        let line = format!(
            r#"{{"timestamp":"2026-01-10T10:30:{second:02}.500000Z","run_id":"r","variation_id":"{variation}","sequence":{sequence},"type":{kind},"content":{content},"metadata":{metadata}{writer}}}"#
        );
        let mut batch = Batch::parse(Bytes::from(line)).unwrap();
        assert_eq!(batch.lane, lane);
        (lane, batch.entries.remove(0))
    }

    fn script() -> Vec<(Lane, Entry)> {
        vec![
            entry("status/var-1", 1, 0, r#"{"state":"running","variations":1}"#, "{}"),
            entry("output/var-1", 1, 2, r#""Hé""#, "{}"),
            entry("output/var-1", 2, 4, r#""llo\n""#, "{}"),
            entry("logs/var-1", 1, 3, r#"{"level":"error","message":"no disk"}"#, "{}"),
            entry("logs/var-1", 2, 3, r#"{"level":"info","message":"fine"}"#, "{}"),
            entry("status/var-1", 2, 9, r#"{"state":"failed","exit_code":3,"reason":"it broke"}"#, "{}"),
        ]
    }

    fn folded<'a>(messages: impl IntoIterator<Item = &'a (Lane, Entry)>) -> Summary {
        let mut summary = Summary::default();
        for (lane, entry) in messages {
            summary.apply(lane, std::slice::from_ref(entry));
        }
        summary
    }

    fn shown(summary: &Summary) -> serde_json::Value {
        serde_json::to_value(RunSummary::of(&"r".parse().unwrap(), summary, false)).unwrap()
    }

    #[test]
    fn a_run_is_told_as_it_was() {
        let shown = shown(&folded(&script()));
        assert_eq!(
            shown,
            serde_json::json!({
                "run_id": "r", "state": "failed", "started": "2026-01-10T10:30:00.500000Z",
                "ended": "2026-01-10T10:30:09.500000Z", "duration_seconds": 9.0,
                "variations": {"var-1": {
                    "state": "failed", "started": "2026-01-10T10:30:00.500000Z",
                    "ended": "2026-01-10T10:30:09.500000Z", "exit_code": 3, "reason": "it broke",
                    "messages": 6, "bytes": shown["variations"]["var-1"]["bytes"],
                    "tokens": 2, "tokens_per_second": 1.0, "first_token_seconds": 2.0, "last_words": "Héllo\n"}},
                "channels": {
                    "output": {"messages": 2, "bytes": 7},
                    "logs": {"messages": 2, "bytes": 37 + 33},
                    "status": {"messages": 2, "bytes": 34 + 52}},
                "tokens": 2, "tokens_per_second": 1.0, "first_token_seconds": 2.0,
                "errors": [
                    {"variation_id": "var-1", "time": "2026-01-10T10:30:03.500000Z", "text": "no disk"},
                    {"variation_id": "var-1", "time": "2026-01-10T10:30:09.500000Z", "text": "failed: it broke"}],
                "error_count": 2, "missing": 0, "archived": false, "cursor": "var-1:2.2.2"
            })
        );
    }

    #[test]
    fn the_order_between_lanes_and_what_comes_twice_change_nothing() {
        let script = script();
        let straight = folded(&script);
        let mut by_lane = script.clone();
        by_lane.sort_by(|(one, _), (two, _)| two.cmp(one));
        assert_eq!(folded(by_lane.iter().chain(&script)), straight);
        assert_eq!(Summary::parse(&straight.to_text()), Some(straight.clone()));
        assert_eq!(Summary::parse(b"{\"version\":99,\"cursor\":\"\",\"lanes\":{}}"), None);
        // From the middle, as it was kept.
        let kept = Summary::parse(&folded(&script[..3]).to_text()).unwrap();
        let mut resumed = kept;
        for (lane, entry) in &script {
            resumed.apply(lane, std::slice::from_ref(entry));
        }
        assert_eq!(resumed, straight);
    }

    #[test]
    fn what_is_left_out_or_cannot_be_read_is_missing() {
        let (lane, first) = entry("output/var-1", 4, 1, r#""a""#, "{}");
        let broken =
            Entry { sequence: Sequence::new(5).unwrap(), line: Bytes::from_static(b"{}"), ..first.clone() };
        let mut summary = Summary::default();
        summary.apply(&lane, &[first, broken]);
        summary.skip(&lane, Sequence::new(7).unwrap());
        summary.skip(&lane, Sequence::new(2).unwrap());
        assert_eq!((summary.missing(), summary.total()), (3 + 1 + 2, 7));
        assert_eq!(shown(&summary)["channels"]["output"]["messages"], 1);
    }

    #[test]
    fn states_are_those_that_everybody_sees() {
        let status = |lane: &str, sequence, second, state: &str| {
            entry(lane, sequence, second, &format!(r#"{{"state":"{state}"}}"#), "{}")
        };
        let pending = status("status/@control", 1, 0, "pending");
        let running = status("status/var-1", 1, 1, "running");
        let lost = status("status/@control", 2, 5, "lost");
        let again = status("status/var-1", 2, 6, "running");
        let ended = status("status/var-1", 3, 7, "succeeded");
        let story = [pending, running, lost, again, ended];
        for length in 0..=story.len() {
            let mut state = RunState::default();
            for (lane, entry) in &story[..length] {
                state.apply(lane, std::slice::from_ref(entry));
            }
            let mine = folded(
                story[..length]
                    .iter()
                    .rev()
                    .filter(|(lane, _)| lane.writer.variation().is_none())
                    .rev()
                    .chain(story[..length].iter().filter(|(lane, _)| lane.writer.variation().is_some())),
            );
            let mine = RunSummary::of(&"r".parse().unwrap(), &mine, false);
            assert_eq!(mine.state, state.state(), "after {length}");
        }
        // Said before it was declared lost, and heard after: its own word counts.
        let late = [status("status/@control", 1, 9, "lost"), status("status/var-1", 1, 8, "succeeded")];
        assert_eq!(RunSummary::of(&"r".parse().unwrap(), &folded(&late), false).state, State::Succeeded);
    }

    #[test]
    fn a_run_that_says_how_many_variations_it_has_waits_for_them() {
        let told = [entry("status/var-1", 1, 0, r#"{"state":"succeeded","variations":2}"#, "{}")];
        assert_eq!(shown(&folded(&told))["state"], "running");
        assert_eq!(shown(&folded(&told))["ended"], serde_json::Value::Null);
    }

    #[test]
    fn tokens_are_those_the_agent_counts_if_it_does() {
        let told = [
            entry("output/var-1", 1, 0, r#""a""#, r#"{"tokens":5}"#),
            entry("output/var-1", 2, 1, r#""b""#, r#"{"tokens":"many"}"#),
            entry("output/var-1", 3, 2, r#""c""#, r#"{"tokens":7}"#),
        ];
        assert_eq!(
            (shown(&folded(&told))["tokens"].as_u64(), shown(&folded(&told))["tokens_per_second"].as_f64()),
            (Some(12), Some(6.0))
        );
        assert_eq!(shown(&folded(&told[1..2]))["tokens"], 1);
        assert_eq!(shown(&folded(&told[1..2]))["tokens_per_second"], serde_json::Value::Null);
    }

    #[test]
    fn last_words_and_errors_are_bounded() {
        let mut summary = Summary::default();
        for sequence in 1..=50 {
            let (lane, said) =
                entry("output/var-1", sequence, 0, &format!("\"{}\"", "é🚀 ".repeat(30)), "{}");
            summary.apply(&lane, &[said]);
            let (lane, said) = entry("logs/var-1", sequence, 0, r#"{"level":60,"msg":"dead"}"#, "{}");
            summary.apply(&lane, &[said]);
        }
        let shown = shown(&summary);
        assert_eq!(shown["variations"]["var-1"]["last_words"].as_str().unwrap().chars().count(), 200);
        assert_eq!(
            (shown["errors"].as_array().unwrap().len(), shown["error_count"].as_u64()),
            (10, Some(50))
        );
    }
}
