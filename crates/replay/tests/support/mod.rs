//! A run to read back.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code, of which each test uses its part"
)]

use http::HeaderMap;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::{Channel, Cursor, Json, Message, State};
use runcast_testkit::{Pen, Replay, http_get};

/// Has two variations say `count` things each, in batches of all sizes; both end well.
pub async fn tell(redis: &str, run: &str, count: u64, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut pens = [Pen::new(redis, run, "a"), Pen::new(redis, run, "b")];
    for pen in &mut pens {
        pen.state(State::Running).await;
    }
    let mut said = [0, 0];
    while let Some(who) = (0..2).filter(|who| said[*who] < count).max_by_key(|_| rng.random::<u32>()) {
        let batch = rng.random_range(1..=9).min(count - said[who]);
        let words = (0..batch).map(|number| {
            let number = said[who] + number;
            Json::string(&format!("{number}: Grüße\n\"{}\"\n", "x".repeat(rng.random_range(0..40))))
        });
        let words: Vec<_> = words.collect();
        pens[who].write(Channel::Output, &words).await;
        if rng.random_ratio(1, 5) {
            pens[who].write(Channel::Metrics, &[Json::of(&serde_json::json!({"loss": 0.5}))]).await;
        }
        said[who] += batch;
    }
    for pen in &mut pens {
        pen.state(State::Succeeded).await;
    }
}

/// An answer: status, headers, text.
pub struct Answer(pub u16, pub HeaderMap, pub String);

/// GETs a path.
pub async fn get(replay: &Replay, path: &str, headers: &[(&str, &str)]) -> Answer {
    let (status, headers, body) = http_get(&replay.url(path), headers).await.unwrap();
    Answer(status, headers, String::from_utf8(body.to_vec()).unwrap())
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.1.get(name).map(|value| value.to_str().unwrap())
    }

    /// The messages of NDJSON.
    pub fn messages(&self) -> Vec<Message> {
        assert_eq!(self.0, 200, "{}", self.2);
        self.2.lines().map(|line| Message::parse(line.as_bytes()).unwrap()).collect()
    }
}

/// Reads all pages of a query, `limit` messages each.
pub async fn pages(replay: &Replay, run: &str, query: &str, limit: usize, place: &str) -> Vec<Message> {
    let (mut messages, mut at) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/runs/{run}/messages?limit={limit}&{query}{at}");
        let page = get(replay, &path, &[]).await;
        let said = page.messages();
        assert!(said.len() <= limit);
        messages.extend(said);
        let Some(next) = page.header("runcast-next") else { return messages };
        assert!(next.parse::<Cursor>().is_ok());
        at = format!("&{place}={next}");
    }
}

/// Checks that each lane's messages come in order, each once, from the first on.
pub fn assert_whole(messages: &[Message]) {
    let mut positions = std::collections::BTreeMap::new();
    for message in messages {
        let position = positions.entry(message.lane()).or_insert(0);
        *position += 1;
        assert_eq!(message.sequence.get(), *position, "{}", message.lane());
    }
}

/// The text of a variation, from its messages.
pub fn text_of(messages: &[Message], variation: &str) -> String {
    let own = messages.iter().filter(|message| message.variation_id.as_str() == variation);
    own.filter_map(|message| message.content.to_text()).collect()
}
