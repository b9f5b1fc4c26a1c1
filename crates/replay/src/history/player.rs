//! A replay's frames, each when it is due.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runcast_protocol::{Cursor, End, EventName, sse};
use runcast_runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::history::{Filter, Pace, Reading};

/// After so much silence a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The reconnection delay that clients are told.
const RETRY: Duration = Duration::from_secs(2);
/// What is read ahead: so many blocks …
const BLOCKS: usize = 4;
/// … of about so many bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// A replay's frames, each when it is due. Reads ahead in a task of its own, so that a slow archive
/// does not break the rhythm.
#[derive(Debug)]
pub(super) struct Player {
    blocks: mpsc::Receiver<Vec<Said>>,
    /// Read and not sent, with the time each is due.
    pending: VecDeque<(Instant, Bytes)>,
    pace: Pace,
    begun: Option<Instant>,
    said_retry: bool,
    shutdown: Shutdown,
    _reader: AbortOnDropHandle<()>,
}

/// A frame, and when its message was said; none if it comes with the one before it.
type Said = (Option<Timestamp>, Bytes);

impl Player {
    /// Plays what `reading` reads and `filter` wants; with `end` at the end.
    pub(super) fn new(
        reading: Reading,
        filter: Filter,
        end: Option<End>,
        pace: Pace,
        shutdown: Shutdown,
    ) -> Self {
        let (sender, blocks) = mpsc::channel(BLOCKS);
        let reader = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = read(reading, &filter, end, &sender).await {
                // The client comes back with its cursor.
                tracing::warn!(%error, "a replay broke off");
            }
        }));
        let pending = VecDeque::new();
        Self { blocks, pending, pace, begun: None, said_retry: false, shutdown, _reader: reader }
    }

    /// The next bytes to send: the frames that are due, or a heartbeat; none at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let silence = Instant::now() + HEARTBEAT;
        loop {
            let now = Instant::now();
            let due = self.pending.front().map(|(due, _)| *due);
            if due.is_some_and(|due| due <= now) {
                return Some(self.gather(now));
            }
            if now >= silence {
                return Some(Bytes::from_static(sse::HEARTBEAT));
            }
            tokio::select! {
                // What was read ahead waits until it is needed.
                more = self.blocks.recv(), if due.is_none() => self.take_in(more?),
                () = sleep_until(due.map_or(silence, |due| due.min(silence))) => {}
                () = self.shutdown.triggered() => return None,
            }
        }
    }

    fn take_in(&mut self, block: Vec<Said>) {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let mut last = begun;
        for (said, frame) in block {
            last = said.map_or(last, |time| begun + self.pace.due(time));
            self.pending.push_back((last, frame));
        }
    }

    /// The frames that are due.
    fn gather(&mut self, now: Instant) -> Bytes {
        let mut bytes = Vec::new();
        if !std::mem::replace(&mut self.said_retry, true) {
            sse::write_retry(&mut bytes, RETRY);
        }
        while bytes.len() < BLOCK_BYTES
            && self.pending.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, frame)) = self.pending.pop_front()
        {
            bytes.extend_from_slice(&frame);
        }
        bytes.into()
    }
}

/// Reads, encodes and sends blocks, until the end or until nobody wants them.
async fn read(
    mut reading: Reading,
    filter: &Filter,
    end: Option<End>,
    blocks: &mpsc::Sender<Vec<Said>>,
) -> Result<(), Error> {
    loop {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while bytes < BLOCK_BYTES {
            let Some(next) = reading.next().await? else {
                if let Some(end) = end {
                    let data = serde_json::to_vec(&end).unwrap_or_default();
                    block.push((None, frame(reading.cursor(), EventName::End, &data)));
                }
                // Who does not listen any more needs no end.
                let _ = blocks.send(block).await;
                return Ok(());
            };
            if let Some(gap) = &next.said.gap {
                let data = serde_json::to_vec(gap).unwrap_or_default();
                block.push((None, frame(reading.cursor(), EventName::Gap, &data)));
            }
            if let Some(entry) = next.said.entry.filter(|entry| filter.wants(entry)) {
                let name = EventName::Message(next.lane.channel.message_type());
                let frame = frame(reading.cursor(), name, &entry.line);
                bytes += frame.len();
                block.push((Some(next.said.time), frame));
            }
        }
        if blocks.send(block).await.is_err() {
            return Ok(());
        }
    }
}

fn frame(cursor: &Cursor, event: EventName, data: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(data.len() + 128);
    sse::write_frame(&mut bytes, &cursor.to_string(), event, data);
    bytes.into()
}
