//! The whole run as one Parquet file.

use std::time::Duration;

use anyhow::{bail, ensure};
use http::{Method, StatusCode};
use runcast_protocol::RunId;

use crate::export::Written;
use crate::export::patience::{Patience, chunk};
use crate::export::progress::Progress;
use crate::export::target::Target;
use crate::server::{Answer, Server};
use crate::tail::follow::is_passing;

/// With this a Parquet file begins and ends.
const MAGIC: &[u8] = b"PAR1";
/// Behind the metadata stand their length, and the magic.
const TRAILER: u64 = 8;
/// How long the service may gather before the file begins.
const PATIENCE: Duration = Duration::from_secs(300);

/// Writes the file. Its end is not known before it is there, so a cut begins it anew.
///
/// # Errors
/// If the run is not known, the connection cannot be mended, or the target cannot be written.
pub(crate) async fn export(
    replay: &Server,
    run: &RunId,
    target: &mut Target,
    progress: &Progress,
) -> anyhow::Result<Written> {
    let path = format!("/v1/runs/{run}/export?format=parquet");
    let mut patience = Patience::default();
    loop {
        let why = match replay.ask(Method::GET, &path, &[], PATIENCE).await {
            Err(error) => format!("{error:#}"),
            Ok(answer) if answer.status == StatusCode::OK => match copy(answer, target, progress).await? {
                Ok(bytes) => return Ok(Written { messages: rows(target, bytes)?, bytes, missing: 0 }),
                Err(error) => {
                    ensure!(target.restart()?, "the connection to {replay} broke: {error:#}");
                    progress.restart();
                    format!("the connection to {replay} broke: {error:#}")
                }
            },
            Ok(answer) if is_passing(answer.status) => format!("{replay}: {}", answer.problem().await),
            Ok(answer) => bail!("{replay}: {}", answer.problem().await),
        };
        patience.again(&why).await?;
    }
}

/// Copies an answer; the inner error is why it broke off.
async fn copy(
    mut answer: Answer,
    target: &mut Target,
    progress: &Progress,
) -> anyhow::Result<anyhow::Result<u64>> {
    let (mut bytes, mut last) = (0, Vec::new());
    loop {
        let piece = match chunk(&mut answer).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        };
        target.write(&piece)?;
        progress.add(piece.len() as u64);
        bytes += piece.len() as u64;
        last.extend_from_slice(&piece[piece.len().saturating_sub(MAGIC.len())..]);
        last.drain(..last.len().saturating_sub(MAGIC.len()));
    }
    Ok(if last == MAGIC { Ok(bytes) } else { Err(anyhow::anyhow!("it ends before its end")) })
}

/// Rows of the file that was written; none if it cannot be looked at again.
fn rows(target: &mut Target, bytes: u64) -> anyhow::Result<Option<u64>> {
    let Some(trailer) = target.tail(bytes.saturating_sub(TRAILER))? else { return Ok(None) };
    let Some(length) = trailer.first_chunk::<4>().map(|bytes| u64::from(u32::from_le_bytes(*bytes))) else {
        return Ok(None);
    };
    let footer = target.tail(bytes.saturating_sub(TRAILER + length))?.unwrap_or_default();
    Ok(Thrift(&footer).rows())
}

/// Thrift's compact protocol, as much of it as leads to `FileMetaData.num_rows` (field 3).
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn rows(mut self) -> Option<u64> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            field = match head >> 4 {
                0 => return None,
                step => field + step,
            };
            if field == 3 {
                // Zigzag; a count is not negative.
                return Some(self.varint()? >> 1);
            }
            self.skip(head & 15, 0)?;
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    /// Skips a value of a type. Nesting is bounded: the file comes from elsewhere.
    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        if depth > 16 {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.0 = self.0.get(8..)?,
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.0 = self.0.get(length..)?;
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                for _ in 0..count {
                    // In a list, booleans take a byte.
                    self.skip(if head & 15 <= 2 { 3 } else { head & 15 }, depth + 1)?;
                }
            }
            12 => loop {
                let head = self.byte()?;
                if head == 0 {
                    break;
                }
                if head >> 4 == 0 {
                    self.varint()?;
                }
                self.skip(head & 15, depth + 1)?;
            },
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_says_how_many_rows_there_are() {
        // version 1; a schema of one struct {4: "root", 5: 9}; num_rows 1,000,000.
        let footer =
            [&[0x15, 2, 0x19, 0x1c, 0x48, 4][..], b"root", &[0x15, 18, 0, 0x16, 0x80, 0x89, 0x7a, 0]]
                .concat();
        assert_eq!(Thrift(&footer).rows(), Some(1_000_000));
        for length in 0..footer.len() - 2 {
            assert_eq!(Thrift(&footer[..length]).rows(), None, "{length}");
        }
        assert_eq!(Thrift(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 1]).rows(), None);
        assert_eq!(Thrift(&[0x1c; 1000]).rows(), None);
    }
}
