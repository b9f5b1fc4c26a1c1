//! What publishing showed.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// All ways of publishing, measured one after the other.
#[derive(Debug, Clone, Serialize)]
pub struct PublishReport {
    /// Bytes of text in a message.
    pub payload: usize,
    /// The ways.
    pub rows: Vec<Row>,
    /// What could not be measured, and how to get it.
    pub missing: Option<String>,
}

/// One way of publishing.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub way: String,
    /// Messages in the measuring window.
    pub messages: u64,
    /// Seconds until Redis had all of them.
    pub seconds: f64,
    /// CPU time of Redis for each message, in µs.
    pub redis_us: f64,
    /// CPU time of the publisher for each, in µs; none where the program has ended before it can be asked.
    pub publisher_us: Option<f64>,
    /// Entries of the stream they made.
    pub entries: u64,
    /// Messages that were sent and are not in Redis.
    pub lost: u64,
}

impl Row {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Messages for each second of Redis's CPU: what one core of it bears.
    pub fn per_redis_core(&self) -> f64 {
        1e6 / self.redis_us
    }

    /// Messages in an entry.
    pub fn batch(&self) -> f64 {
        self.messages as f64 / self.entries.max(1) as f64
    }
}

impl Display for PublishReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "S7: publishing, {} bytes of text a message; CPU in µs a message", self.payload)?;
        let heads = ["messages/s", "Redis", "messages/Redis core", "publisher", "messages/entry", "lost"];
        let [rate, redis, core, publisher, batch, lost] = heads;
        writeln!(f, "{:<34} {rate:>10} {redis:>6} {core:>19} {publisher:>9} {batch:>14} {lost:>4}", "")?;
        for row in &self.rows {
            let publisher = row.publisher_us.map_or("–".to_owned(), |us| format!("{us:.2}"));
            writeln!(
                f,
                "{:<34} {:>10.0} {:>6.2} {:>19.0} {publisher:>9} {:>14.1} {:>4}",
                row.way,
                row.rate(),
                row.redis_us,
                row.per_redis_core(),
                row.batch(),
                row.lost,
            )?;
        }
        self.missing.iter().try_for_each(|missing| writeln!(f, "{missing}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_derived() {
        let (way, publisher_us) = ("sidecar".to_owned(), Some(2.0));
        let row =
            Row { way, messages: 1_000, seconds: 0.5, redis_us: 4.0, publisher_us, entries: 100, lost: 0 };
        assert_eq!((row.rate(), row.per_redis_core(), row.batch()), (2_000.0, 250_000.0, 10.0));
        let report = PublishReport { payload: 256, rows: vec![row], missing: None }.to_string();
        let last = report.lines().last().expect("a row").split_whitespace().collect::<Vec<_>>();
        assert_eq!(last, ["sidecar", "2000", "4.00", "250000", "2.00", "10.0", "0"]);
    }
}
