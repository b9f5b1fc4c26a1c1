//! Messages, page by page.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;
use runcast_protocol::{Channel, Cursor, Lane, Message, RunId, Sequence, VariationId};
use serde::Deserialize;

use crate::export::Written;
use crate::export::patience::{Patience, chunk};
use crate::export::progress::Progress;
use crate::export::target::Target;
use crate::server::Server;
use crate::tail::choice;
use crate::tail::follow::is_passing;

/// Messages in a page: few requests, and little to hold.
const PAGE: usize = 5000;
/// What of a page is held before it is written, in bytes: while it is, a cut costs no second look.
const HELD: usize = 32 << 20;
/// The header that says where the next page begins.
const NEXT: &str = "runcast-next";
/// How every message begins; a line that says what is missing does not.
const MESSAGE: &[u8] = b"{\"timestamp\"";

/// A line that says what is missing of a lane.
#[derive(Debug, Deserialize)]
struct GapLine {
    lane: Lane,
    first: Sequence,
    last: Sequence,
}

/// Whole lines, as they come, and how far they lead.
#[derive(Debug, Default)]
struct Lines {
    cursor: Cursor,
    held: Vec<u8>,
    written: Written,
}

/// Writes all messages of a run.
///
/// # Errors
/// If the run is not known, the connection cannot be mended, or the target cannot be written.
pub(super) async fn export(
    replay: &Server,
    run: &RunId,
    channels: &[Channel],
    variations: &[VariationId],
    target: &mut Target,
    progress: &Progress,
) -> anyhow::Result<Written> {
    let channels = if channels.is_empty() { &Channel::ALL[..] } else { channels };
    let chosen = choice(channels, variations);
    let (mut lines, mut patience, mut limit) =
        (Lines::default(), Patience::default(), format!("&limit={PAGE}"));
    loop {
        let path = format!("/v1/runs/{run}/messages?format=ndjson{limit}&{chosen}&after={}", lines.cursor);
        let mut answer = match replay.get(&path, &[]).await {
            Ok(answer) => answer,
            Err(error) => {
                patience.again(&format!("{error:#}")).await?;
                continue;
            }
        };
        match answer.status {
            StatusCode::OK => {}
            // A service with smaller pages: they are as good.
            StatusCode::BAD_REQUEST if !limit.is_empty() => {
                limit.clear();
                continue;
            }
            status if is_passing(status) => {
                patience.again(&format!("{replay}: {}", answer.problem().await)).await?;
                continue;
            }
            _ => bail!("{replay}: {}", answer.problem().await),
        }
        let next = answer.headers.get(NEXT).map(|next| next.to_str().map(str::to_owned)).transpose()?;
        let before = lines.written.bytes;
        let cut = loop {
            match chunk(&mut answer).await {
                Ok(Some(bytes)) => lines.take(&bytes, target, progress)?,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = cut {
            // What came as a whole is kept; the rest follows it.
            lines.settle(target, progress)?;
            if lines.written.bytes > before {
                patience.renew();
            }
            patience.again(&format!("the connection to {replay} broke: {error:#}")).await?;
            continue;
        }
        patience.renew();
        match next {
            Some(next) => {
                lines.turn(target, progress)?;
                let next: Cursor = next.parse().with_context(|| format!("{replay} names no next page"))?;
                anyhow::ensure!(next != lines.cursor, "{replay} leads in a circle");
                lines.cursor = next;
            }
            None => {
                lines.turn(target, progress)?;
                return Ok(lines.written);
            }
        }
    }
}

impl Lines {
    fn take(&mut self, bytes: &Bytes, target: &mut Target, progress: &Progress) -> anyhow::Result<()> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= HELD { self.settle_whole_lines(target, progress) } else { Ok(()) }
    }

    /// The page is whole: its end is where the next one begins.
    fn turn(&mut self, target: &mut Target, progress: &Progress) -> anyhow::Result<()> {
        anyhow::ensure!(self.held.is_empty() || self.held.ends_with(b"\n"), "the last line has no end");
        let held = std::mem::take(&mut self.held);
        self.write(&held, target, progress)
    }

    /// The page is cut: its whole lines say themselves how far they lead.
    fn settle(&mut self, target: &mut Target, progress: &Progress) -> anyhow::Result<()> {
        self.settle_whole_lines(target, progress)?;
        self.held.clear();
        Ok(())
    }

    fn settle_whole_lines(&mut self, target: &mut Target, progress: &Progress) -> anyhow::Result<()> {
        let end = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let rest = self.held.split_off(end);
        let whole = std::mem::replace(&mut self.held, rest);
        for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Some(gap) = gap(line) {
                self.cursor.set(&gap.lane, gap.last);
            } else {
                let message = Message::parse(line).context("a line is no message")?;
                self.cursor.set(&message.lane(), message.sequence);
            }
        }
        self.write(&whole, target, progress)
    }

    fn write(&mut self, lines: &[u8], target: &mut Target, progress: &Progress) -> anyhow::Result<()> {
        target.write(lines)?;
        let mut messages = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match gap(line) {
                Some(gap) => self.written.missing += gap.last.get() - gap.first.get() + 1,
                None => messages += 1,
            }
        }
        progress.add(messages);
        *self.written.messages.get_or_insert(0) += messages;
        self.written.bytes += lines.len() as u64;
        Ok(())
    }
}

fn gap(line: &[u8]) -> Option<GapLine> {
    if line.starts_with(MESSAGE) { None } else { serde_json::from_slice(line).ok() }
}
