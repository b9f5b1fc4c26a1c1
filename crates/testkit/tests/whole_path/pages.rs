//! Pages that viewers share: what was read for one is given to others for as long as chance has it.

use rand::Rng;
use rand::rngs::SmallRng;
use runcast_bus::{EntryId, Found, ParsedPage};
use runcast_protocol::{Lane, Sequence};
use runcast_sse_fanout::pages::SharedPage;
use runcast_sse_fanout::shared_reader::{SharedReader, Turn};
use tokio::time::Instant;

use crate::redis::Redis;
use crate::truth::Mistake;

/// Most pages that are kept.
const KEPT: usize = 12;
/// Entries of a page.
const ENTRIES: usize = 4;

/// Pages of all streams, each with the lane it was read for and the entry it follows.
#[derive(Default)]
pub struct Pages(Vec<(Lane, EntryId, SharedPage)>);

impl Pages {
    /// What a reader finds next, in a page that others left behind or in a new one.
    pub fn turn(
        &mut self,
        reader: &mut SharedReader,
        upto: Sequence,
        redis: &Redis,
        rng: &mut SmallRng,
    ) -> Found {
        let asked = Instant::now();
        let (lane, after) = (reader.lane().clone(), reader.wants());
        let believes = redis.mistake == Some(Mistake::BelievesOldPages);
        let known = self.0.iter().rposition(|kept| serves(kept, &lane, after));
        if let Some(known) = known.filter(|_| believes || rng.random_bool(0.7)) {
            match reader.turn(&self.0[known].2, asked, upto, false) {
                Turn::Found(found) => return found,
                Turn::TooOld if believes => return Found::NotYet,
                Turn::TooOld => {}
                Turn::Lost => unreachable!("nothing is recalled"),
            }
        }
        let one_writer = lane.channel.has_one_writer();
        let start = if one_writer { after.round_down(rng.random_range(1..=ENTRIES as u64)) } else { after };
        let read_at = Instant::now();
        let mut page = ParsedPage::of(&lane, redis.read(&lane, (start, 2 * ENTRIES)));
        if !one_writer {
            page.lanes = if page.is_last { redis.lanes().clone() } else { Default::default() };
        }
        self.0.push((lane, start, SharedPage::new(read_at, page)));
        if self.0.len() > KEPT {
            self.0.remove(rng.random_range(0..KEPT));
        }
        match reader.turn(&self.0.last().expect("was just read").2, asked, upto, false) {
            Turn::Found(found) => found,
            turn => unreachable!("a page that is new was answered with {turn:?}"),
        }
    }

    /// Nothing is kept any more: the time of all is over.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn serves((known, start, page): &(Lane, EntryId, SharedPage), lane: &Lane, after: EntryId) -> bool {
    if lane.channel.has_one_writer() {
        known == lane && *start <= after && (page.page.end > after || page.page.is_last)
    } else {
        known.channel == lane.channel && *start == after
    }
}
