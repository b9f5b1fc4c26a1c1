//! Reading a lane's past from pages that others read too.

use std::sync::Arc;

use runcast_bus::{BusError, EntryId, Found, Item, LaneReader, Scan};
use runcast_protocol::{Lane, Sequence};
use tokio::time::Instant;

use crate::pages::{RunPages, SharedPage};

/// A place in a lane's past, read onwards from in pages that others read too.
///
/// It tells what a [`LaneReader`] of its own would: old pages are believed about messages that are there, never
/// about what is not.
///
/// * If a page that was read before it asked tells of a gap, of nothing more, or that the search of a shared
///   stream must begin anew, the same page is read again, from now on.
/// * If that tells of it too, but pages on the way there were old, all of the way is searched again in pages
///   read from now on: in a shared stream, what an old page lacked may have come in there with a failover.
///
/// Between two pages of a shared stream it does not matter which is older: the second begins with the last
/// entry of the first, and a stream in which an entry is the same is the same up to there.
#[derive(Debug, Clone)]
pub struct SharedReader {
    reader: LaneReader,
    /// Whether what was searched was searched in old pages.
    by_old: bool,
    /// Whether it takes no old pages for now.
    only_new: bool,
}

/// What a page held.
#[derive(Debug)]
pub struct Turned {
    /// What comes next, or that there is nothing yet.
    pub found: Found,
    /// The page, if that came from one.
    pub page: Option<Arc<SharedPage>>,
}

impl SharedReader {
    /// Begins after `position`.
    pub fn new(lane: Lane, position: Sequence) -> Self {
        Self { reader: LaneReader::new(lane, position, Scan::default()), by_old: false, only_new: false }
    }

    /// The lane it reads.
    pub fn lane(&self) -> &Lane {
        self.reader.lane()
    }

    /// The last sequence that was read or told as a gap.
    pub fn position(&self) -> Sequence {
        self.reader.position()
    }

    /// The entry after which the page begins that it wants.
    pub fn wants(&self) -> EntryId {
        self.reader.wants().0
    }

    /// Reads the next page, not beyond `upto`, which is known to exist or to have existed. What Redis has
    /// lost is recalled from the archive, if that is asked. May be given up at any time, and called again.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; nothing has changed then.
    pub async fn page(&mut self, pages: &Arc<RunPages>, upto: Sequence) -> Result<Turned, BusError> {
        let asked = Instant::now();
        let mut not_before = self.only_new.then_some(asked);
        while !self.reader.is_missing() {
            let page = pages.page(self.lane(), self.wants(), not_before).await?;
            let _turn = pages.viewers_turn().await;
            // From here on without a pause: what was taken in would be lost with a call that is given up.
            match self.turn(&page, asked, upto, pages.bus().asks_past()) {
                Turn::Found(found) => return Ok(Turned { found, page: Some(page) }),
                Turn::TooOld => not_before = Some(asked),
                Turn::Lost => {}
            }
        }
        let found = self.reader.recall(pages.bus(), pages.run()).await?;
        Ok(Turned { found, page: None })
    }

    /// Takes in a page. Pure.
    pub fn turn(&mut self, page: &SharedPage, asked: Instant, upto: Sequence, recalls: bool) -> Turn {
        let is_old = page.read_at < asked;
        let mut ahead = self.reader.clone();
        let found = ahead.turn_parsed(&page.page, upto);
        let is_lost = match &found {
            Found::NotYet => true,
            Found::Items(items) => items.iter().any(|item| matches!(item, Item::Gap(_))),
        };
        let begins_anew = ahead.scan() == Scan::default() && self.reader.scan() != Scan::default();
        if is_old && (is_lost || begins_anew) {
            return Turn::TooOld;
        }
        if is_lost && self.by_old {
            self.reader.search_anew();
            (self.by_old, self.only_new) = (false, true);
            return Turn::Found(Found::Items(Vec::new()));
        }
        self.only_new &= ahead.position() == self.position() && !is_lost;
        self.by_old = (self.by_old || is_old) && !begins_anew;
        if is_lost && recalls {
            return self.reader.turn_up_to_loss(&page.page, upto).map_or(Turn::Lost, Turn::Found);
        }
        self.reader = ahead;
        Turn::Found(found)
    }
}

/// What a page gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// What comes next.
    Found(Found),
    /// It must be read anew.
    TooOld,
    /// Something is missing that is to be recalled.
    Lost,
}
