//! What a stream has lost is recalled from the archive, a page at a time.

use std::sync::Arc;

use runcast_protocol::{Batch, GapReason, Placement, RunId, Sequence, place};

use super::{Found, Item, LaneReader, PAGE_BYTES, Scan};
use crate::{Asking, Bus, BusError, ParsedPage};

/// What a stream has lost.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    /// Its last message; what follows is in the stream again.
    upto: Sequence,
    /// What it is told as if the archive lacks it too. None if Redis does not know the lane: that it had
    /// so much is then known from elsewhere, and it may come back.
    reason: Option<GapReason>,
    /// What was asked for, until it is answered.
    asking: Option<Asking<Batch>>,
    /// What was answered, until all of it is told.
    page: Option<Arc<Batch>>,
}

impl Missing {
    fn new(upto: Sequence, reason: Option<GapReason>) -> Self {
        Self { upto, reason, asking: None, page: None }
    }
}

impl LaneReader {
    /// Takes in the page that it wants, up to where something is missing that the archive may have; none
    /// if that comes next. Pure.
    pub fn turn_up_to_loss(&mut self, page: &ParsedPage, upto: Sequence) -> Option<Found> {
        let is_unknown = page.stood_at(&self.lane).is_none();
        let mut ahead = self.clone();
        let found = ahead.turn_parsed(page, upto);
        let lost = match &found {
            Found::NotYet => is_unknown.then(|| (0, Missing::new(upto, None))),
            Found::Items(items) => items.iter().enumerate().find_map(|(index, item)| match item {
                Item::Gap(gap) if gap.reason != GapReason::Malformed => {
                    Some((index, Missing::new(gap.last, Some(gap.reason))))
                }
                Item::Gap(_) | Item::Message(_) => None,
            }),
        };
        let Some((index, missing)) = lost else {
            *self = ahead;
            return Some(found);
        };
        // What follows the loss is read again, once that is recalled.
        self.missing = Some(missing);
        let Found::Items(mut items) = found else { return None };
        items.truncate(index);
        self.position = match items.last()? {
            Item::Message(entry) => entry.sequence,
            Item::Gap(gap) => gap.last,
        };
        Some(Found::Items(items))
    }

    /// Asks the archive for what comes next of what is missing. That may take seconds; a call that is given
    /// up is taken up by the next one.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; nothing has changed then.
    pub async fn recall(&mut self, bus: &Bus, run: &RunId) -> Result<Found, BusError> {
        if let Some(missing) = &mut self.missing
            && missing.page.is_none()
        {
            // Kept over a call that is given up, so that the wait has an end.
            let ask = || bus.past_page(run, &self.lane, self.position);
            let answer = missing.asking.get_or_insert_with(ask).answer().await;
            missing.asking = None;
            missing.page = answer?;
        }
        Ok(self.turn_recalled())
    }

    /// Takes in what the archive has of what is missing. Pure.
    fn turn_recalled(&mut self) -> Found {
        let mut items = Vec::new();
        let Some(mut missing) = self.missing.take() else { return Found::Items(items) };
        let is_next =
            |page: &Arc<Batch>| page.lane == self.lane && place(self.position, page) != Placement::Duplicate;
        let Some(page) = missing.page.take().filter(is_next) else {
            let Some(reason) = missing.reason else {
                self.scan = Scan::default();
                return Found::NotYet;
            };
            self.lose(missing.upto, reason, &mut items);
            return Found::Items(items);
        };
        if place(self.position, &page) == Placement::Ahead {
            // A hole that the archive has too.
            let last = page.first().previous().min(missing.upto);
            self.lose(last, missing.reason.unwrap_or(GapReason::Evicted), &mut items);
        }
        if let Placement::Next(entries) = place(self.position, &page) {
            let mut bytes = 0;
            for entry in entries {
                if entry.sequence > missing.upto || bytes >= PAGE_BYTES {
                    break;
                }
                bytes += entry.line.len();
                self.position = entry.sequence;
                items.push(Item::Message(entry.clone()));
            }
        }
        if self.position < missing.upto {
            missing.page = Some(page).filter(|page| page.last() > self.position);
            self.missing = Some(missing);
        }
        Found::Items(items)
    }
}

#[cfg(test)]
mod tests {
    use runcast_protocol::{Entry, Gap, Lane};

    use super::*;
    use crate::{EntryId, LaneState, Page};

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    fn lane() -> Lane {
        "output/a".parse().unwrap()
    }

    fn line(number: u64) -> String {
        format!(
            r#"{{"timestamp":"2026-01-10T10:30:00.000000Z","run_id":"r","variation_id":"a","sequence":{number},"type":"output","content":"x","metadata":{{}}}}"#
        )
    }

    fn payload(numbers: std::ops::RangeInclusive<u64>) -> bytes::Bytes {
        numbers.map(line).collect::<Vec<_>>().join("\n").into()
    }

    /// What Redis has after what the reader wants, of batches of two; `last` none if it knows no such lane.
    fn redis(reader: &LaneReader, kept: &[u64], last: Option<u64>) -> Page {
        let wanted = |first: &&u64| EntryId::after(at(**first + 1)) > reader.wants().0;
        let batches = kept.iter().filter(wanted).map(|&first| payload(first..=first + 1)).collect();
        let lane = last.map(|last| LaneState { last: at(last), epoch: 1 });
        let end = kept.last().map_or(reader.wants().0, |first| EntryId::after(at(first + 1)));
        Page { lane, batches, end, is_last: true }
    }

    /// Reads up to `upto` and says what came, e.g. `1 2 [3-6 Trimmed] 7`; `?` if there was nothing yet.
    /// The archive's pages hold three messages.
    fn read(kept: &[u64], last: Option<u64>, archive: &[u64], upto: u64) -> (String, usize) {
        let mut reader = LaneReader::new(lane(), Sequence::NONE, Scan::default());
        let (mut told, mut asked) = (Vec::new(), 0);
        while reader.position() < at(upto) {
            let found = match reader.missing.is_some() {
                true => None,
                false => {
                    reader.turn_up_to_loss(&ParsedPage::of(&lane(), redis(&reader, kept, last)), at(upto))
                }
            };
            let found = found.unwrap_or_else(|| {
                let missing = reader.missing.as_mut().unwrap();
                if missing.page.is_none() {
                    asked += 1;
                    let next = archive.iter().copied().find(|&number| at(number) > reader.position);
                    let end = |first| (first..first + 3).take_while(|n| archive.contains(n)).last().unwrap();
                    let page = next.map(|first| Batch::parse(payload(first..=end(first))).unwrap());
                    missing.page = page.map(Arc::new);
                }
                reader.turn_recalled()
            });
            match found {
                Found::NotYet => {
                    told.push("?".to_owned());
                    break;
                }
                Found::Items(items) => told.extend(items.iter().map(|item| match item {
                    Item::Message(Entry { sequence, .. }) => sequence.to_string(),
                    Item::Gap(Gap { first, last, reason, .. }) => format!("[{first}-{last} {reason:?}]"),
                })),
            }
        }
        (told.join(" "), asked)
    }

    #[test]
    fn what_was_trimmed_comes_from_the_archive_and_the_rest_from_redis() {
        assert_eq!(
            read(&[7, 9], Some(10), &[1, 2, 3, 4, 5, 6, 7, 8], 10),
            ("1 2 3 4 5 6 7 8 9 10".into(), 2)
        );
        // In the middle of what Redis has, too.
        assert_eq!(read(&[1, 7], Some(8), &[1, 2, 3, 4, 5, 6], 8), ("1 2 3 4 5 6 7 8".into(), 2));
    }

    #[test]
    fn what_was_evicted_comes_from_the_archive() {
        assert_eq!(read(&[], Some(5), &[1, 2, 3, 4, 5], 5), ("1 2 3 4 5".into(), 2));
        assert_eq!(read(&[], None, &[1, 2, 3, 4, 5], 5), ("1 2 3 4 5".into(), 2));
    }

    #[test]
    fn only_what_the_archive_lacks_is_a_gap() {
        assert_eq!(read(&[7], Some(8), &[], 8), ("[1-6 Trimmed] 7 8".into(), 1));
        assert_eq!(read(&[7], Some(8), &[1, 2, 5], 8), ("1 2 [3-4 Trimmed] 5 [6-6 Trimmed] 7 8".into(), 3));
        assert_eq!(read(&[7], Some(8), &[9, 10], 8), ("[1-6 Trimmed] 7 8".into(), 1));
        assert_eq!(read(&[], Some(4), &[1, 2], 4), ("1 2 [3-4 Evicted]".into(), 2));
        assert_eq!(read(&[], None, &[1, 2, 4], 4), ("1 2 [3-3 Evicted] 4".into(), 2));
    }

    #[test]
    fn what_redis_does_not_know_of_is_no_gap_before_somebody_says_so() {
        assert_eq!(read(&[], None, &[], 4), ("?".into(), 1));
        assert_eq!(read(&[], None, &[1, 2], 4), ("1 2 ?".into(), 2));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_as_good_as_none() {
        for (page, told) in [
            (payload(1..=2), "gap"),
            (bytes::Bytes::from(line(5).replace("\"a\"", "\"b\"")), "gap"),
            (payload(3..=9), "messages"),
        ] {
            let mut reader = LaneReader::new(lane(), at(2), Scan::default());
            reader.missing = Some(Missing::new(at(5), Some(GapReason::Trimmed)));
            reader.missing.as_mut().unwrap().page = Some(Arc::new(Batch::parse(page).unwrap()));
            let Found::Items(items) = reader.turn_recalled() else { panic!("something is told") };
            assert_eq!(reader.position(), at(5));
            match told {
                "gap" => assert!(matches!(&items[..], [Item::Gap(gap)] if gap.first == at(3))),
                _ => assert_eq!(items.len(), 3, "not more than is missing"),
            }
        }
    }
}
