//! A run as one Parquet file, from the archive and from Redis. Written as it is read: a row group at a time.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parquet::errors::ParquetError;
use runcast_bus::{Bus, Found, Item, LaneReader, PAUSE, Scan};
use runcast_protocol::{Lane, RunId, Sequence};
use runcast_runtime::http::Body;
use tokio::sync::mpsc;

use super::table::Table;
use super::{ArchiveError, ArchivedRun};
use crate::context::Context;
use crate::error::Error;

/// The media type (registered with IANA).
const PARQUET: HeaderValue = HeaderValue::from_static("application/vnd.apache.parquet");
/// Pieces of the file that wait for the client, about a mebibyte uncompressed each.
const WAITING: usize = 2;
/// How often a lane is asked again for what Redis knows of but does not have.
const ASKED_AGAIN: u32 = 10;

type Piece = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The answer with the file.
///
/// # Errors
/// [`Error`] if nothing is known of the run, or it cannot be read.
pub(super) async fn response(context: &Context, run: &RunId) -> Result<Response<Body>, Error> {
    let archived = context.archive.run(run).await?;
    let mut lanes: BTreeMap<Lane, Sequence> =
        context.bus.lanes(run).await?.into_iter().map(|(lane, state)| (lane, state.last)).collect();
    for (lane, last) in archived.iter().flat_map(|archived| archived.cursor().lanes()) {
        let known = lanes.entry(lane).or_default();
        *known = last.max(*known);
    }
    if lanes.is_empty() {
        return Err(Error::UnknownRun(run.clone()));
    }
    let (pieces, mut receiver) = mpsc::channel::<Piece>(WAITING);
    let source = Source { bus: context.bus.clone(), archived, run: run.clone(), lanes };
    // Ends by itself when the client is gone: nobody takes the pieces then.
    tokio::spawn(async move {
        if let Err(error) = source.write(&pieces).await {
            tracing::warn!(run = %source.run, %error, "an export broke off");
            // Breaks the connection, so that the client does not take it for whole.
            let _ = pieces.send(Err(error.to_string().into())).await;
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let stream = futures_util::StreamExt::map(stream, |piece| piece.map(Frame::data));
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PARQUET);
    // A run id has no character that would have to be quoted.
    if let Ok(name) = HeaderValue::try_from(format!("attachment; filename=\"{run}.parquet\"")) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Where the messages come from.
struct Source {
    bus: Bus,
    archived: Option<ArchivedRun>,
    run: RunId,
    /// How far each lane goes.
    lanes: BTreeMap<Lane, Sequence>,
}

impl Source {
    async fn write(&self, pieces: &mpsc::Sender<Piece>) -> Result<(), Error> {
        let mut table = Table::new(&self.run).map_err(failed)?;
        for (lane, upto) in &self.lanes {
            let mut position = Sequence::NONE;
            if let Some(archived) = &self.archived {
                loop {
                    let entries = archived.after(lane, position).await?;
                    let Some(last) = entries.last() else { break };
                    position = last.sequence;
                    for entry in &entries {
                        table.push(lane, entry).map_err(failed)?;
                    }
                    if !send(&mut table, pieces).await? {
                        return Ok(());
                    }
                }
                position = position.max(archived.cursor().position(lane));
            }
            let mut reader = LaneReader::new(lane.clone(), position, Scan::default());
            let mut asked = 0;
            while reader.position() < *upto {
                let Found::Items(items) = reader.page(&self.bus, &self.run, *upto).await? else {
                    asked += 1;
                    if asked > ASKED_AGAIN {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                for item in items {
                    if let Item::Message(entry) = item {
                        table.push(lane, &entry).map_err(failed)?;
                    }
                }
                if !send(&mut table, pieces).await? {
                    return Ok(());
                }
            }
        }
        let rest = table.finish().map_err(failed)?.bytes;
        let _ = pieces.send(Ok(rest)).await;
        Ok(())
    }
}

/// Passes on what is written; whether somebody still wants it.
async fn send(table: &mut Table, pieces: &mpsc::Sender<Piece>) -> Result<bool, Error> {
    let piece = table.drain().map_err(failed)?;
    Ok(piece.is_empty() || pieces.send(Ok(piece)).await.is_ok())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: ParquetError) -> Error {
    ArchiveError::Write(error.to_string()).into()
}
