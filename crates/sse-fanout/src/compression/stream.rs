//! A viewer whose stream is compressed: by itself while it reads what lies behind, and on its view's track once it is
//! level.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use runcast_auth::Lease;

use crate::compression::Encoding;
use crate::compression::passage::Passage;
use crate::compression::stitch::Stitch;
use crate::compression::track::{Place, Read, Track};
use crate::past::Past;
use crate::ring_reader::RingReader;
use crate::sight::Seen;
use crate::viewer::{Next, Viewer, ViewerContext};

/// A viewer whose stream is compressed.
#[derive(Debug)]
pub struct CompressedViewer {
    context: Arc<ViewerContext>,
    lease: Option<Arc<Lease>>,
    seen: Arc<Seen>,
    stitch: Stitch,
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    Alone { viewer: Box<Viewer>, passage: Option<Passage>, may_enter: bool },
    OnTrack { past: Past, track: Arc<Track>, place: Place, reader: RingReader },
}

impl CompressedViewer {
    /// What `viewer` gets, compressed, as long as the lease lasts.
    pub fn new(
        context: Arc<ViewerContext>,
        viewer: Viewer,
        lease: Option<Arc<Lease>>,
        seen: Arc<Seen>,
        encoding: Encoding,
    ) -> Self {
        let viewer = Box::new(viewer.leased(lease.clone()).seen(seen.clone()));
        let reads = Reads::Alone { viewer, passage: None, may_enter: true };
        Self { context, lease, seen, stitch: Stitch::new(encoding), reads }
    }

    /// The next bytes to send; none when the stream is over and has to be [finished](Self::finish).
    ///
    /// # Errors
    /// If there is no memory to compress with.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match &mut self.reads {
                Reads::Alone { viewer, passage, may_enter } => {
                    let next = if *may_enter {
                        viewer.next_or_level().await
                    } else {
                        viewer.next().await.map_or(Next::Over, Next::Bytes)
                    };
                    match next {
                        Next::Bytes(bytes) => {
                            if passage.is_none() {
                                *passage = Some(Passage::new(self.stitch.encoding())?);
                            }
                            *may_enter = true;
                            let piece = passage.as_mut().map(|passage| passage.write(&bytes)).transpose()?;
                            return Ok(piece.map(|piece| self.stitch.add(&piece)));
                        }
                        Next::Level => self.enter()?,
                        Next::Over => return Ok(None),
                    }
                }
                Reads::OnTrack { past, track, place, reader } => {
                    let may_stay =
                        past.view.has_seats() && !self.lease.as_ref().is_some_and(|lease| lease.has_ended());
                    let read = if may_stay { track.read(&past.view, place)? } else { Read::Left };
                    match read {
                        Read::Piece(piece, after) => {
                            *reader = after;
                            self.seen.stands(crate::sight::Place::Live(past.view.clone(), reader.next()));
                            return Ok(Some(self.stitch.add(&piece)));
                        }
                        Read::Nothing => tokio::select! {
                            () = place.news() => {}
                            _ = Lease::end_of(self.lease.as_ref()) => {}
                        },
                        Read::Left => self.leave(),
                    }
                }
            }
        }
    }

    /// What ends the stream.
    pub fn finish(self) -> Bytes {
        self.stitch.finish()
    }

    /// Goes on the view's track, if it can be entered now.
    fn enter(&mut self) -> io::Result<()> {
        let Reads::Alone { viewer, may_enter, .. } = &mut self.reads else { return Ok(()) };
        // If not, another frame has to come first.
        *may_enter = false;
        let Some((past, reader)) = viewer.place() else { return Ok(()) };
        let track = past.view.track(self.stitch.encoding());
        if let Some(place) = track.enter(&past.view, &reader)? {
            self.context.usher.attend(&past.view);
            self.reads = Reads::OnTrack { past, track, place, reader };
        }
        Ok(())
    }

    /// Reads on alone.
    fn leave(&mut self) {
        if let Reads::OnTrack { past, reader, .. } = &self.reads {
            let viewer = Viewer::risen(self.context.clone(), past.clone(), reader.clone());
            let viewer = Box::new(viewer.leased(self.lease.clone()).seen(self.seen.clone()));
            self.reads = Reads::Alone { viewer, passage: None, may_enter: true };
        }
    }
}
