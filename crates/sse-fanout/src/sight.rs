//! How far each viewer has come, for those who run the service: `GET /debug/viewers` on the admin port. A viewer that
//! is level costs its entry here and nothing else; one that is not says where it stands whenever it is handed bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runcast_protocol::{Cursor, RunId};
use serde::Serialize;

use crate::view::View;

/// Where viewers are seen. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sights(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    seen: Mutex<HashMap<u64, Arc<Seen>>>,
}

/// Who is seen.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// What it watches.
    pub run: RunId,
    /// Where it comes from, if that is known.
    pub client: Option<IpAddr>,
    /// How it is connected.
    pub transport: Transport,
}

/// How a viewer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Server-Sent Events over HTTP/1.
    Http1,
    /// Server-Sent Events over HTTP/2.
    Http2,
    /// A WebSocket.
    Websocket,
}

/// A viewer that is seen until this is dropped.
#[derive(Debug)]
pub struct Sight {
    sights: Sights,
    id: u64,
    seen: Arc<Seen>,
}

/// What is seen of a viewer.
#[derive(Debug)]
pub struct Seen {
    visitor: Visitor,
    since: Instant,
    /// Where it stands, and since when.
    place: Mutex<(Place, Instant)>,
}

/// Where a viewer stands.
#[derive(Debug)]
pub enum Place {
    /// Nobody knows yet where its run stands.
    Opening,
    /// It reads what lies before its view's ring, and stands here.
    Past(Arc<View>, Cursor),
    /// It has been handed all frames before this one.
    Live(Arc<View>, u64),
    /// It has everything.
    Level,
}

/// What `GET /debug/viewers` answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many viewers there are.
    pub viewers: usize,
    /// How many of them have not been handed all that there is.
    pub behind: usize,
    /// Those that are furthest behind.
    pub worst: Vec<Row>,
}

/// A viewer that is behind.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Tells it from the others of this process.
    pub id: u64,
    /// What it watches.
    pub run_id: RunId,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// How it is connected.
    pub transport: Transport,
    /// `opening`, `catching_up`, or `slow`: its connection does not take what is there for it.
    pub state: &'static str,
    /// How many events, or while it is catching up messages, are there and were not handed to its connection.
    pub lag: u64,
    /// For how many seconds it has not been handed anything.
    pub waiting_seconds: f64,
    /// For how many seconds it has been connected.
    pub connected_seconds: f64,
}

impl Sights {
    /// Sees a viewer from now on.
    pub fn see(&self, visitor: Visitor) -> Sight {
        let (id, now) = (self.0.next.fetch_add(1, Ordering::Relaxed), Instant::now());
        let seen = Arc::new(Seen { visitor, since: now, place: Mutex::new((Place::Opening, now)) });
        self.lock().insert(id, seen.clone());
        Sight { sights: self.clone(), id, seen }
    }

    /// How many there are, and the `most` that are furthest behind.
    pub fn report(&self, most: usize) -> Report {
        // Not looked at with the list held: viewers come and go meanwhile.
        let seen: Vec<(u64, Arc<Seen>)> = self.lock().iter().map(|(id, seen)| (*id, seen.clone())).collect();
        let mut worst: Vec<Row> = seen.iter().filter_map(|(id, seen)| seen.row(*id)).collect();
        let behind = worst.len();
        worst.sort_by(|a, b| b.lag.cmp(&a.lag).then(b.waiting_seconds.total_cmp(&a.waiting_seconds)));
        worst.truncate(most);
        Report { viewers: seen.len(), behind, worst }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seen>>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sight {
    /// What is seen of it.
    pub fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.sights.lock().remove(&self.id);
    }
}

impl Seen {
    /// It stands there now.
    pub fn stands(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = (place, Instant::now());
    }

    /// None if it is not behind.
    fn row(&self, id: u64) -> Option<Row> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, lag) = match &place.0 {
            Place::Opening => ("opening", 0),
            Place::Past(view, cursor) => ("catching_up", lacks(view.ring().head(), cursor)),
            Place::Live(view, next) => ("slow", view.ring().end().saturating_sub(*next)),
            Place::Level => return None,
        };
        if lag == 0 && state != "opening" {
            return None;
        }
        let seconds = |duration: Duration| (duration.as_secs_f64() * 1000.0).round() / 1000.0;
        let Visitor { run, client, transport } = self.visitor.clone();
        let (waiting_seconds, connected_seconds) =
            (seconds(place.1.elapsed()), seconds(self.since.elapsed()));
        Some(Row { id, run_id: run, client, transport, state, lag, waiting_seconds, connected_seconds })
    }
}

/// How many messages lie between a cursor and the head.
fn lacks(head: &Cursor, cursor: &Cursor) -> u64 {
    head.lanes().map(|(lane, last)| last.get().saturating_sub(cursor.position(&lane).get())).sum()
}

#[cfg(test)]
mod tests {
    use runcast_protocol::Selection;

    use super::*;
    use crate::ring::RingLimits;

    #[test]
    fn who_is_furthest_behind_comes_first_and_who_has_left_is_forgotten() {
        let sights = Sights::default();
        let see = |run: &str| {
            let run = RunId::new(run).unwrap();
            sights.see(Visitor { run, client: None, transport: Transport::Http1 })
        };
        let head: Cursor = "v:9".parse().unwrap();
        let view =
            Arc::new(View::new(Selection::default(), head.clone(), RingLimits { frames: 8, bytes: 1000 }));
        let (opening, level, behind, live) = (see("a"), see("b"), see("c"), see("d"));
        level.seen().stands(Place::Level);
        behind.seen().stands(Place::Past(view.clone(), "v:2".parse().unwrap()));
        live.seen().stands(Place::Live(view.clone(), view.ring().end()));
        let report = sights.report(1);
        assert_eq!((report.viewers, report.behind, report.worst.len()), (4, 2, 1));
        let worst = &report.worst[0];
        assert_eq!((worst.run_id.as_str(), worst.state, worst.lag), ("c", "catching_up", 7));
        drop((opening, level, behind, live));
        assert_eq!(sights.report(9).viewers, 0);
    }
}
