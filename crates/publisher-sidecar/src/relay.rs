//! From a source of bytes to our own standard output or error, and to the lanes.

use std::time::Duration;

use runcast_protocol::{Json, MessageType};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use crate::draft::Draft;
use crate::lines::{Line, Lines};
use crate::metadata::Metadata;
use crate::publisher::Publisher;
use crate::record;
use crate::source::Source;
use crate::splitter::{Split, Splitter};
use crate::utf8::Utf8Decoder;

/// How bytes become messages.
pub(crate) trait Reading: Send {
    /// What `bytes` completes.
    fn push(&mut self, bytes: &[u8]) -> Vec<Draft>;
    /// Whether something is held back that time alone should release.
    fn is_holding(&self) -> bool;
    /// What is held back has waited long enough.
    fn expire(&mut self) -> Vec<Draft>;
    /// There is nothing more to come.
    fn finish(&mut self) -> Vec<Draft>;
}

/// Passes everything from `source` but its secrets on to `tee`, byte for byte, and publishes what `reading`
/// makes of it, until the source ends or the publisher takes nothing more.
pub(crate) async fn relay(
    mut source: Source,
    tee: impl AsyncWrite + Send + Unpin,
    mut reading: impl Reading,
    hold: Duration,
    publisher: Publisher,
) {
    let mut tee = Tee { to: Some(tee) };
    let redactor = publisher.redactor().clone();
    let mut secrets = redactor.stream();
    // When what may be a secret is let go: once the source was silent for so long.
    let mut suspected_until: Option<Instant> = None;
    // When what is held back began to wait.
    let mut held_since: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let expiry = held_since.map_or(now, |since| since + hold);
        let clean = tokio::select! {
            chunk = source.next() => match chunk {
                Ok(Some(bytes)) => Some(secrets.push(&bytes)),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "cannot read what the agent says any further");
                    break;
                }
            },
            () = sleep_until(suspected_until.unwrap_or(now)), if suspected_until.is_some() => Some(secrets.expire()),
            () = sleep_until(expiry), if held_since.is_some() => None,
        };
        let (drafts, bytes) = match clean.map(|clean| redactor.count(clean)) {
            Some(bytes) => {
                suspected_until = secrets.is_holding().then(|| Instant::now() + redactor.hold());
                (reading.push(&bytes), bytes)
            }
            None => (reading.expire(), Vec::new()),
        };
        // A line that begins in the same read in which another ends has waited no time yet.
        let goes_on = if drafts.is_empty() { held_since } else { None };
        held_since = reading.is_holding().then(|| goes_on.unwrap_or_else(Instant::now));
        let (published, ()) = tokio::join!(publish(&publisher, drafts), tee.write(&bytes));
        if published.is_none() {
            return;
        }
    }
    let rest = redactor.count(secrets.finish());
    let mut drafts = reading.push(&rest);
    drafts.extend(reading.finish());
    tokio::join!(publish(&publisher, drafts), tee.write(&rest));
}

/// None if the publisher takes nothing more.
async fn publish(publisher: &Publisher, drafts: Vec<Draft>) -> Option<()> {
    for draft in drafts {
        if let Err(error) = publisher.publish_or_bury(draft).await {
            tracing::error!(%error, "what the agent says is not published any further");
            return None;
        }
    }
    Some(())
}

struct Tee<W> {
    to: Option<W>,
}

impl<W: AsyncWrite + Unpin> Tee<W> {
    async fn write(&mut self, bytes: &[u8]) {
        let Some(to) = self.to.as_mut().filter(|_| !bytes.is_empty()) else { return };
        let written = async {
            to.write_all(bytes).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            // Whoever read our output is gone; the run goes on for those who watch it.
            tracing::warn!(%error, "nobody reads our own output any more");
            self.to = None;
        }
    }
}

/// Standard output: text as it comes, and log records.
pub(crate) struct OutputReading {
    splitter: Splitter,
    decoder: Utf8Decoder,
    output_metadata: Json,
    log_metadata: Json,
}

impl OutputReading {
    pub(crate) fn new(detect_logs: bool, metadata: &Metadata) -> Self {
        Self {
            splitter: Splitter::new(detect_logs),
            decoder: Utf8Decoder::default(),
            output_metadata: metadata.to_json(),
            log_metadata: metadata.clone().with("stream", "stdout").to_json(),
        }
    }

    fn drafts(&mut self, split: Split) -> Vec<Draft> {
        let text = self.decoder.push(&split.output);
        self.text(&text)
            .into_iter()
            .chain(split.records.into_iter().map(|record| log(record, &self.log_metadata)))
            .collect()
    }

    fn text(&self, text: &str) -> Option<Draft> {
        (!text.is_empty()).then(|| Draft::output(text, self.output_metadata.clone()))
    }
}

impl Reading for OutputReading {
    fn push(&mut self, bytes: &[u8]) -> Vec<Draft> {
        let split = self.splitter.push(bytes);
        self.drafts(split)
    }

    fn is_holding(&self) -> bool {
        self.splitter.is_holding()
    }

    fn expire(&mut self) -> Vec<Draft> {
        let split = self.splitter.expire();
        self.drafts(split)
    }

    fn finish(&mut self) -> Vec<Draft> {
        let split = self.splitter.finish();
        let mut drafts = self.drafts(split);
        let rest = self.decoder.finish();
        drafts.extend(self.text(&rest));
        drafts
    }
}

/// Standard error: one log message for each line.
pub(crate) struct ErrorReading {
    lines: Lines,
    metadata: Json,
    partial_metadata: Json,
}

impl ErrorReading {
    pub(crate) fn new(metadata: &Metadata) -> Self {
        let metadata = metadata.clone().with("stream", "stderr");
        let partial_metadata = metadata.clone().with("partial", true).to_json();
        Self { lines: Lines::default(), metadata: metadata.to_json(), partial_metadata }
    }

    fn drafts(&self, lines: impl IntoIterator<Item = Line>) -> Vec<Draft> {
        lines.into_iter().map(|line| self.draft(&line)).collect()
    }

    fn draft(&self, line: &Line) -> Draft {
        let record = if line.whole { record::parse(line.text.as_bytes()) } else { None };
        let content = record.unwrap_or_else(|| Json::of(&serde_json::json!({ "message": line.text })));
        log(content, if line.partial { &self.partial_metadata } else { &self.metadata })
    }
}

impl Reading for ErrorReading {
    fn push(&mut self, bytes: &[u8]) -> Vec<Draft> {
        let lines = self.lines.push(bytes);
        self.drafts(lines)
    }

    fn is_holding(&self) -> bool {
        self.lines.is_holding()
    }

    fn expire(&mut self) -> Vec<Draft> {
        let line = self.lines.expire();
        self.drafts(line)
    }

    fn finish(&mut self) -> Vec<Draft> {
        let line = self.lines.finish();
        self.drafts(line)
    }
}

fn log(content: Json, metadata: &Json) -> Draft {
    Draft::now(MessageType::Log, content, metadata.clone())
}
