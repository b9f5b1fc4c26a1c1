use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use Channel::{Logs, Output};
use tempfile::TempDir;

use super::*;

/// Some ten messages of [`line`] fill a segment, four segments the journal.
const SMALL: Limits = Limits { bytes: 12_000, segment_bytes: 3_000 };

fn at(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn open_as(folder: &Path, limits: Limits, variation: &str) -> Result<(Journal, Recovered), JournalError> {
    let (run, variation) = (RunId::new("run-1").unwrap(), VariationId::new(variation).unwrap());
    Journal::open(folder, limits, &run, &variation)
}

fn open(folder: &TempDir) -> (Journal, Recovered) {
    open_as(folder.path(), SMALL, "var-1").unwrap()
}

fn line(number: u64) -> Vec<u8> {
    format!("{number} {}", "x".repeat(250)).into_bytes()
}

/// Appends the channel's messages of these numbers.
fn append(journal: &mut Journal, channel: Channel, numbers: std::ops::RangeInclusive<u64>) -> Vec<Recorded> {
    numbers.map(|number| journal.append(channel, &line(number)).unwrap()).collect()
}

/// The recovered messages' counts; checks that each has the line that was given with that count.
fn counts(journal: &Journal, recovered: &Recovered, channel: Channel) -> Vec<u64> {
    let check = |message: &Recorded| {
        assert_eq!(journal.read(message.position).unwrap(), line(message.count));
        message.count
    };
    recovered.lanes[&channel].messages.iter().map(check).collect()
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn overwrite(path: &Path, offset: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"#", offset).unwrap();
}

#[test]
fn what_was_noted_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = open(&folder);
    assert!(recovered.lanes.is_empty() && recovered.torn.is_none() && recovered.damaged.is_empty());
    append(&mut journal, Output, 1..=3);
    journal.origin(Output, at(40)).unwrap();
    append(&mut journal, Logs, 1..=1);
    append(&mut journal, Output, 4..=5);
    journal.safe(Output, 2).unwrap();
    drop(journal);

    let (mut journal, recovered) = open(&folder);
    let lane = &recovered.lanes[&Output];
    assert_eq!((lane.origin, lane.taken, lane.safe, lane.lost), (Some(at(40)), 5, 2, 0));
    assert_eq!(counts(&journal, &recovered, Output), [3, 4, 5]);
    assert_eq!(recovered.lanes[&Logs].origin, None);
    assert_eq!(counts(&journal, &recovered, Logs), [1]);
    assert_eq!(append(&mut journal, Output, 6..=6)[0].count, 6);
}

#[test]
fn several_messages_with_one_write_are_as_good_as_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    let (first, second) = (line(1), line(2));
    let recorded = journal.append_all(&[(Output, &first), (Logs, &first), (Output, &second)]).unwrap();
    assert_eq!(recorded.iter().map(|message| message.count).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(journal.read(recorded[2].position).unwrap(), second);
    drop(journal);
    let (journal, recovered) = open(&folder);
    assert_eq!(counts(&journal, &recovered, Output), [1, 2]);
}

#[test]
fn segments_go_when_all_in_them_is_safe_and_nothing_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    journal.origin(Output, at(7)).unwrap();
    append(&mut journal, Logs, 1..=1);
    let recorded = append(&mut journal, Output, 1..=25);
    journal.safe(Output, 25).unwrap();
    assert_eq!(journal.stats().segments, 3, "the log record keeps its segment, and so the later ones");
    journal.safe(Logs, 1).unwrap();
    assert_eq!((journal.stats().segments, journal.stats().messages), (1, 0));
    assert_eq!(journal.stats().bytes, fs::metadata(&files(&folder)[0]).unwrap().len());
    assert!(matches!(journal.read(recorded[0].position), Err(JournalError::Gone(0))));
    drop(journal);

    let (mut journal, recovered) = open(&folder);
    let lane = &recovered.lanes[&Output];
    assert_eq!((lane.origin, lane.taken, lane.safe, lane.messages.len()), (Some(at(7)), 25, 25, 0));
    assert_eq!(append(&mut journal, Output, 26..=26)[0].count, 26);
}

#[test]
fn a_full_journal_takes_marks_only_and_has_room_again_when_they_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    let mut taken = 0;
    let error = loop {
        match journal.append(Output, &line(taken + 1)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Full { limit: 12_000, .. }), "{error}");
    assert!(journal.stats().bytes > 11_000 && journal.stats().bytes <= 12_000);
    journal.origin(Output, at(0)).unwrap();
    journal.safe(Output, 1).unwrap();
    assert!(matches!(journal.append(Output, &line(0)), Err(JournalError::Full { .. })));
    journal.safe(Output, 12).unwrap();
    append(&mut journal, Output, taken + 1..=taken + 1);
    drop(journal);
    let (journal, recovered) = open(&folder);
    assert_eq!(counts(&journal, &recovered, Output), (13..=taken + 1).collect::<Vec<_>>());
}

#[test]
fn one_message_may_need_all_the_room_there_is_but_not_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    assert!(matches!(journal.append(Output, &[b'x'; 12_000]), Err(JournalError::TooLarge { .. })));
    append(&mut journal, Output, 1..=3);
    let large = [b'x'; 11_500];
    assert!(matches!(journal.append(Output, &large), Err(JournalError::Full { .. })));
    journal.safe(Output, 3).unwrap();
    let recorded = journal.append(Output, &large).unwrap();
    assert_eq!(journal.read(recorded.position).unwrap(), &large[..]);
    assert_eq!(journal.stats().segments, 1);
}

#[test]
fn the_oldest_message_that_is_not_safe_has_an_age() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    assert_eq!(journal.stats().oldest, None);
    append(&mut journal, Output, 1..=1);
    drop(journal);
    let (mut journal, _) = open(&folder);
    assert!(journal.stats().oldest.unwrap() < Duration::from_secs(60));
    journal.safe(Output, 1).unwrap();
    assert_eq!(journal.stats().oldest, None);
}

#[test]
fn only_one_sidecar_and_only_the_variations_own_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&folder);
    let error = open_as(folder.path(), SMALL, "var-1").unwrap_err();
    assert!(matches!(error, JournalError::Locked(_)), "{error}");
    drop(journal);
    let error = open_as(folder.path(), SMALL, "var-2").unwrap_err();
    assert!(error.to_string().contains("is of variation var-1 of run run-1"), "{error}");
    open(&folder);
}

#[test]
fn a_later_versions_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("00000000000000000000.journal"), b"RUNCASTJ\x02\0\0\0later").unwrap();
    let error = open_as(folder.path(), SMALL, "var-1").unwrap_err();
    assert!(matches!(error, JournalError::Version { version: 2, .. }), "{error}");
}

#[test]
fn a_torn_end_is_cut_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    let recorded = append(&mut journal, Output, 1..=2);
    drop(journal);
    let file = &files(&folder)[0];
    let whole = fs::read(file).unwrap();
    let second = recorded[1].position.offset;
    for end in second..whole.len() as u64 {
        fs::write(file, &whole[..end as usize]).unwrap();
        let (mut journal, recovered) = open(&folder);
        let torn = recovered.torn.map(|torn| (torn.segment, torn.offset, torn.bytes));
        assert_eq!(torn, (end > second).then_some((0, second, end - second)));
        assert_eq!(counts(&journal, &recovered, Output), [1]);
        append(&mut journal, Output, 2..=2);
        drop(journal);
        let (journal, recovered) = open(&folder);
        assert_eq!(recovered.torn, None);
        assert_eq!(counts(&journal, &recovered, Output), [1, 2]);
    }
}

#[test]
fn a_segment_that_was_being_begun_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    append(&mut journal, Output, 1..=15);
    drop(journal);
    let second = &files(&folder)[1];
    let whole = fs::read(second).unwrap();
    for end in 0..100 {
        fs::write(second, &whole[..end]).unwrap();
        let (mut journal, recovered) = open(&folder);
        assert_eq!(recovered.torn.map(|torn| torn.bytes), Some(end as u64));
        let taken = recovered.lanes[&Output].taken;
        assert_eq!(counts(&journal, &recovered, Output), (1..=taken).collect::<Vec<_>>());
        append(&mut journal, Output, taken + 1..=15);
        assert_eq!(journal.stats().segments, 2);
        drop(journal);
        fs::rename(&files(&folder)[1], second).unwrap();
    }
}

#[test]
fn damage_in_an_earlier_segment_costs_its_rest_and_is_told_to_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    let recorded = append(&mut journal, Output, 1..=25);
    let damaged = recorded[3].position;
    let rest = recorded.iter().filter(|message| message.position.segment == 0).count() as u64 - 3;
    drop(journal);
    overwrite(&files(&folder)[0], damaged.offset + 30);

    let (journal, recovered) = open(&folder);
    assert_eq!(recovered.torn, None);
    let [damage] = recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
    assert_eq!((damage.segment, damage.offset), (0, damaged.offset));
    assert_eq!((recovered.lanes[&Output].lost, recovered.lanes[&Output].taken), (rest, 25));
    let expected: Vec<_> = (1..=3).chain(4 + rest..=25).collect();
    assert_eq!(counts(&journal, &recovered, Output), expected);
    assert!(matches!(journal.read(damaged), Err(JournalError::Damaged { segment: 0, .. })));
}

#[test]
fn damage_in_the_last_segment_is_no_torn_end_and_is_left_for_inspection() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    let damaged = append(&mut journal, Output, 1..=5)[3].position;
    drop(journal);
    // The length: it seems to reach far beyond the end now.
    overwrite(&files(&folder)[0], damaged.offset + 2);
    let before = fs::read(&files(&folder)[0]).unwrap();

    let (mut journal, recovered) = open(&folder);
    assert_eq!((recovered.torn, recovered.damaged.len()), (None, 1));
    assert_eq!(counts(&journal, &recovered, Output), [1, 2, 3]);
    append(&mut journal, Output, 4..=4);
    assert_eq!(fs::read(&files(&folder)[0]).unwrap(), before);
    drop(journal);
    let (journal, recovered) = open(&folder);
    assert_eq!(counts(&journal, &recovered, Output), [1, 2, 3, 4]);
}

#[test]
fn a_segment_whose_head_is_damaged_is_lost_and_the_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    journal.origin(Output, at(5)).unwrap();
    append(&mut journal, Output, 1..=25);
    drop(journal);
    overwrite(&files(&folder)[0], 20);
    let (journal, recovered) = open(&folder);
    let lane = &recovered.lanes[&Output];
    assert_eq!((recovered.damaged.len(), lane.origin, lane.taken, lane.safe), (1, Some(at(5)), 25, 0));
    let counts = counts(&journal, &recovered, Output);
    assert_eq!(counts, (lane.lost + 1..=25).collect::<Vec<_>>());
}

#[test]
fn entries_of_a_later_version_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder);
    append(&mut journal, Output, 1..=1);
    journal.mark(&Entry::Unknown).unwrap();
    append(&mut journal, Output, 2..=2);
    drop(journal);
    let (journal, recovered) = open(&folder);
    assert_eq!(recovered.skipped, 1);
    assert_eq!(counts(&journal, &recovered, Output), [1, 2]);
}
