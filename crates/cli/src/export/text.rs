//! What agents said.

use anyhow::{bail, ensure};
use http::StatusCode;
use runcast_protocol::{RunId, VariationId};

use crate::export::Written;
use crate::export::patience::{Patience, chunk};
use crate::export::progress::Progress;
use crate::export::target::Target;
use crate::server::{Answer, Server};
use crate::tail::follow::is_passing;

/// Writes what these variations said: one byte for byte, several one after the other with a heading.
///
/// # Errors
/// If the run is not known, the connection cannot be mended, or the target cannot be written.
pub(super) async fn export(
    replay: &Server,
    run: &RunId,
    variations: &[VariationId],
    target: &mut Target,
    progress: &Progress,
) -> anyhow::Result<Written> {
    let mut written = Written::default();
    let mut ends_line = true;
    for (index, variation) in variations.iter().enumerate() {
        if variations.len() > 1 {
            let heading = format!(
                "{}{}==> {variation} <==\n",
                if ends_line { "" } else { "\n" },
                if index > 0 { "\n" } else { "" }
            );
            target.write(heading.as_bytes())?;
            written.bytes += heading.len() as u64;
        }
        let mut said = Said { offset: 0, last: b'\n' };
        said.copy(replay, run, variation, variations.len() > 1, target, progress).await?;
        ends_line = said.last == b'\n';
        written.bytes += said.offset;
    }
    Ok(written)
}

/// How much of one variation's text is written.
struct Said {
    offset: u64,
    last: u8,
}

impl Said {
    async fn copy(
        &mut self,
        replay: &Server,
        run: &RunId,
        variation: &VariationId,
        may_be_silent: bool,
        target: &mut Target,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let path = format!("/v1/runs/{run}/messages?format=text&variations={variation}");
        let mut patience = Patience::default();
        loop {
            let range = format!("bytes={}-", self.offset);
            let headers = [("range", range.as_str())];
            let headers = if self.offset > 0 { &headers[..] } else { &[] };
            let why = match replay.get(&path, headers).await {
                Err(error) => format!("{error:#}"),
                Ok(answer) => match answer.status {
                    StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                        let before = self.offset;
                        match self.body(answer, target, progress).await? {
                            None => return Ok(()),
                            Some(why) => {
                                if self.offset > before {
                                    patience.renew();
                                }
                                format!("the connection to {replay} broke: {why:#}")
                            }
                        }
                    }
                    // All of it came, and only its end did not.
                    StatusCode::RANGE_NOT_SATISFIABLE if self.offset > 0 => return Ok(()),
                    StatusCode::NOT_FOUND if may_be_silent => return Ok(()),
                    status if is_passing(status) => format!("{replay}: {}", answer.problem().await),
                    _ => bail!("{replay}: {variation}: {}", answer.problem().await),
                },
            };
            patience.again(&why).await?;
        }
    }

    /// Copies an answer; why it broke off, if it did.
    async fn body(
        &mut self,
        mut answer: Answer,
        target: &mut Target,
        progress: &Progress,
    ) -> anyhow::Result<Option<anyhow::Error>> {
        let whole = answer.status == StatusCode::OK;
        if !whole {
            let range = answer.headers.get("content-range").and_then(|range| range.to_str().ok());
            let begins = format!("bytes {}-", self.offset);
            ensure!(
                range.is_some_and(|range| range.starts_with(&begins)),
                "another range than was asked for: {range:?}"
            );
        }
        // A server that knows no ranges sends again what we have.
        let mut known = if whole { self.offset } else { 0 };
        loop {
            let bytes = match chunk(&mut answer).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            };
            let skip = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
            known -= skip as u64;
            let fresh = &bytes[skip..];
            target.write(fresh)?;
            progress.add(fresh.len() as u64);
            self.offset += fresh.len() as u64;
            self.last = fresh.last().copied().unwrap_or(self.last);
        }
    }
}
