//! A viewer on a plain HTTP/1.1 connection that it has to itself.
//!
//! Its task writes what the viewer reads from the past, and sleeps while the viewer sits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runcast_auth::Lease;
use tokio::net::TcpStream;

use crate::chunk;
use crate::outlet::{Outlet, gone};
use crate::past::Past;
use crate::seat::Seated;
use crate::sight::Place;
use crate::viewer::{Next, Present, Viewer, ViewerContext};

/// How long who may not watch any longer has to take what was begun, and the end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Streams to `socket` until the stream is over or the client is gone, and no longer than the lease lasts.
pub async fn stream(
    context: Arc<ViewerContext>,
    viewer: Viewer,
    lease: Option<Arc<Lease>>,
    present: Present,
    socket: Arc<TcpStream>,
) {
    let seen = present.seen();
    let (mut viewer, mut rest) = (Box::new(viewer.leased(lease.clone()).seen(seen.clone())), Bytes::new());
    loop {
        // Boxed: a viewer that sits, as most do most of the time, is to cost little more than its seat.
        let outlet = Outlet::new(socket.clone(), context.write_stall);
        let speaking = Box::pin(speak(viewer, rest, outlet));
        let spoken = tokio::select! {
            spoken = speaking => spoken,
            () = gone(&socket) => return,
            () = overdue(lease.as_ref()) => return,
        };
        let (past, mut seated) = match spoken {
            Ok(Some(seat)) => seat,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "viewer's connection ended early"),
        };
        context.usher.attend(&past.view);
        seen.stands(Place::Level);
        let risen = tokio::select! {
            risen = seated.risen() => risen,
            () = gone(&socket) => None,
            // Up again, it is told.
            _ = Lease::end_of(lease.as_ref()) => seated.get_up(&socket).await,
        };
        let Some(risen) = risen else { return };
        rest = risen.rest;
        let up = Viewer::risen(context.clone(), past, risen.reader);
        viewer = Box::new(up.leased(lease.clone()).seen(seen.clone()));
    }
}

/// Returns when the lease is over and the client has not taken in time what was begun, nor the end.
async fn overdue(lease: Option<&Arc<Lease>>) {
    Lease::end_of(lease).await;
    tokio::time::sleep(GOODBYE).await;
}

/// Writes `rest` and what follows until the viewer sits; none if the stream is over.
async fn speak(mut viewer: Box<Viewer>, rest: Bytes, outlet: Outlet) -> io::Result<Option<(Past, Seated)>> {
    outlet.send_raw(&rest).await?;
    drop(rest);
    loop {
        match viewer.next_or_level().await {
            Next::Bytes(bytes) => outlet.send(&bytes).await?,
            Next::Level => return Ok(viewer.sit(outlet.socket().clone())),
            Next::Over => {
                outlet.send_raw(chunk::LAST).await?;
                return Ok(None);
            }
        }
    }
}
