//! Reading a lane's past while the stream changes under it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use runcast_bus::{EntryId, Found, Item, LaneReader, LaneState, Page, Scan};
use runcast_protocol::{BatchWriter, Channel, Json, Lane, RunId, Selection, Sequence, VariationId};
use runcast_testkit::message;

fn at(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// A page of the status stream: the numbers of each batch of `status/a`, and the last entry's ID.
fn page(batches: &[&[u64]], end: &str, is_last: bool) -> Page {
    let (run, variation) = (RunId::new("r").unwrap(), VariationId::new("a").unwrap());
    let batch = |numbers: &&[u64]| {
        let mut writer = BatchWriter::default();
        for &number in *numbers {
            let mut message = message(&run, &variation, Channel::Status, at(number), Json::empty_object());
            message.timestamp = "2026-01-10T10:30:00Z".parse().unwrap();
            writer.push(&message.to_line());
        }
        writer.finish(usize::MAX)
    };
    let lane = Some(LaneState { last: at(5), epoch: 1 });
    Page { lane, batches: batches.iter().map(batch).collect(), end: end.parse().unwrap(), is_last }
}

fn numbers(found: Found) -> Vec<u64> {
    let Found::Items(items) = found else { panic!("{found:?}") };
    let number = |item| match item {
        Item::Message(entry) => entry.sequence.get(),
        Item::Gap(gap) => panic!("{gap:?}"),
    };
    items.into_iter().map(number).collect()
}

#[test]
fn a_page_begins_with_what_was_seen_last_which_is_not_told_again() {
    let mut reader = LaneReader::new("status/a".parse().unwrap(), Sequence::NONE, Scan::default());
    assert_eq!(numbers(reader.turn(page(&[&[1, 2], &[3]], "100-0", false), at(5))), [1, 2, 3]);
    assert_eq!(reader.wants().0, "99-18446744073709551615".parse().unwrap());
    assert_eq!(numbers(reader.turn(page(&[&[3], &[4, 5]], "101-0", true), at(5))), [4, 5]);
}

#[test]
fn what_a_promoted_server_numbers_lower_is_no_gap() {
    let lane: Lane = "status/a".parse().unwrap();
    for lost_ids_are_given_again in [false, true] {
        let mut reader = LaneReader::new(lane.clone(), Sequence::NONE, Scan::default());
        assert_eq!(numbers(reader.turn(page(&[&[1], &[2]], "100-1", false), at(5))), [1, 2]);
        // 100-1 is lost with all after 100-0. The writer sends 2 again, and 3, and that may be 100-1 now.
        let after = if lost_ids_are_given_again {
            page(&[&[2, 3], &[4, 5]], "100-2", true)
        } else {
            page(&[&[4, 5]], "101-0", true)
        };
        assert_eq!(numbers(reader.turn(after, at(5))), [0; 0]);
        assert_eq!(reader.wants().0, EntryId::default(), "from the beginning");
        assert_eq!(numbers(reader.turn(page(&[&[1], &[2, 3], &[4, 5]], "101-0", true), at(5))), [3, 4, 5]);
    }
}

#[test]
fn a_viewer_is_told_only_of_the_part_of_a_gap_that_it_has_not_seen() {
    use runcast_protocol::{Gap, GapReason, sse::Parser};
    use runcast_sse_fanout::ring::RingLimits;
    use runcast_sse_fanout::ring_reader::RingReader;
    use runcast_sse_fanout::view::View;

    let view = View::new(Selection::default(), "a:5".parse().unwrap(), RingLimits { frames: 9, bytes: 9999 });
    let gap = |first, last| Gap {
        lane: "output/a".parse().unwrap(),
        first: Sequence::new(first).unwrap(),
        last: Sequence::new(last).unwrap(),
        reason: GapReason::Evicted,
    };
    view.push_gap(&gap(6, 9));
    // Level with the view, and with more, or all, from another replica.
    for (cursor, told) in [("a:5", Some(gap(6, 9))), ("a:7", Some(gap(8, 9))), ("a:9", None)] {
        let mut reader = RingReader::enter(&view.ring(), &cursor.parse().unwrap()).unwrap();
        let events = Parser::default().push(&reader.read(&view.ring()).unwrap());
        let gaps: Vec<Gap> = events.iter().map(|event| serde_json::from_str(&event.data).unwrap()).collect();
        assert_eq!(gaps, Vec::from_iter(told), "{cursor}");
        assert!(events.iter().all(|event| event.id == "a:9"));
    }
}

#[test]
fn whoever_stands_within_merged_messages_reads_on_before_the_ring() {
    use runcast_protocol::{Batch, Cursor, sse::Parser};
    use runcast_sse_fanout::ring::RingLimits;
    use runcast_sse_fanout::ring_reader::RingReader;
    use runcast_sse_fanout::view::View;

    let (run, variation) = (RunId::new("r").unwrap(), VariationId::new("a").unwrap());
    let mut writer = BatchWriter::default();
    for number in 4..=6 {
        let text = Json::string(&number.to_string());
        writer.push(&message(&run, &variation, Channel::Output, at(number), text).to_line());
    }
    let batch = Batch::parse(writer.finish(usize::MAX)).unwrap();
    let limits = RingLimits { frames: 9, bytes: 9999 };
    let cursor = |text: &str| text.parse::<Cursor>().unwrap();
    let view = View::new(Selection::default(), cursor("a:3"), limits).merging(true);
    // Ahead of this replica, before it passes on what comes after 3.
    let mut ahead = RingReader::enter(&view.ring(), &cursor("a:5")).unwrap();
    let mut level = RingReader::enter(&view.ring(), &cursor("a:3")).unwrap();
    view.push(&batch.lane, &batch.entries);
    assert!(ahead.read(&view.ring()).is_none());
    assert_eq!(ahead.position(), cursor("a:5"));
    assert!(RingReader::enter(&view.ring(), &cursor("a:4")).is_none());
    for mut reader in [level.clone(), RingReader::enter(&view.ring(), &cursor("a:3,b:7")).unwrap()] {
        let events = Parser::default().push(&reader.read(&view.ring()).unwrap());
        let [event] = &events[..] else { panic!("{events:?}") };
        assert!(event.data.contains(r#""content":"456""#) && event.data.contains(r#""first_sequence":4"#));
    }
    assert!(RingReader::enter(&view.ring(), &cursor("a:6")).is_some());
    assert!(level.read(&view.ring()).is_some_and(|frames| !frames.is_empty()));
    assert_eq!(level.position(), cursor("a:6"));
}
