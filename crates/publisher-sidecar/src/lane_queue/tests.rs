use super::*;

const LIMITS: BatchLimits = BatchLimits { messages: 3, bytes: 100 };

fn at(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn queue(messages: u64) -> LaneQueue<u64> {
    let mut queue = LaneQueue::new(1000);
    for message in 1..=messages {
        queue.push(message, 10).unwrap();
    }
    queue
}

#[test]
fn numbers_continue_where_redis_stands() {
    let mut queue = queue(2);
    assert_eq!((queue.cut(LIMITS), queue.number(1)), (None, None));
    queue.claimed(at(40), Comparison::default());
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(41), last: at(42), after: at(40) }));
    assert_eq!(queue.push(3, 10), Ok(3));
    assert_eq!(queue.number(3), Some(at(43)));
}

#[test]
fn a_batch_is_limited_in_messages_and_bytes_but_never_empty() {
    let mut queue = queue(5);
    queue.claimed(at(0), Comparison::default());
    let mut last = |messages, bytes| queue.cut(BatchLimits { messages, bytes }).unwrap().last;
    assert_eq!(last(3, 1000), at(3));
    assert_eq!(last(100, 25), at(2));
    assert_eq!(last(100, 1), at(1));
    assert_eq!(last(100, 1000), at(5));
}

#[test]
fn a_full_queue_gives_the_message_back_but_an_empty_one_takes_any() {
    let mut queue = LaneQueue::new(100);
    assert_eq!(queue.push("huge", 500), Ok(1));
    assert_eq!(queue.push("more", 1), Err("more"));
    queue.claimed(at(0), Comparison::default());
    queue.stands_at(at(1));
    assert_eq!(queue.push("more", 1), Err("more"), "appended is not yet safe");
    queue.secure(at(1));
    assert_eq!((queue.push("more", 1), queue.bytes()), (Ok(2), 1));
}

#[test]
fn a_tail_lost_in_redis_is_cut_again() {
    let mut queue = queue(5);
    queue.claimed(at(0), Comparison::default());
    assert_eq!(queue.stands_at(at(5)), Standing::Sound);
    queue.secure(at(2));
    assert_eq!((queue.cut(LIMITS), queue.pending()), (None, 0));
    assert_eq!(queue.stands_at(at(3)), Standing::Sound);
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(4), last: at(5), after: at(3) }));
}

#[test]
fn what_is_gone_on_both_sides_is_told_once_and_gone_over() {
    let mut queue = queue(5);
    queue.claimed(at(10), Comparison::default());
    queue.stands_at(at(15));
    queue.secure(at(14));
    assert_eq!(queue.stands_at(at(0)), Standing::Hole { lost: 14 });
    assert_eq!(queue.stands_at(at(0)), Standing::Sound);
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(15), last: at(15), after: at(0) }));
    assert_eq!(queue.stands_at(at(15)), Standing::Sound);
    queue.push(6, 10).unwrap();
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(16), last: at(16), after: at(15) }));
}

#[test]
fn a_hole_is_gone_over_from_where_redis_stands() {
    let mut queue = queue(5);
    queue.claimed(at(10), Comparison::default());
    queue.stands_at(at(12));
    assert_eq!(queue.give_up(at(13)), Some(3));
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(14), last: at(15), after: at(12) }));
    assert_eq!(queue.stands_at(at(11)), Standing::Sound, "a lost tail is sent first");
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(12), last: at(12), after: at(11) }));
    queue.stands_at(at(12));
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(14), last: at(15), after: at(12) }));
    assert_eq!(queue.stands_at(at(12)), Standing::Sound, "the hole itself is no loss");
    queue.stands_at(at(15));
    queue.secure(at(15));
    assert_eq!((queue.bytes(), queue.pending(), queue.exposed()), (0, 0, 0));
}

#[test]
fn a_hole_at_the_end_waits_for_nobody() {
    let mut queue = queue(2);
    queue.claimed(at(0), Comparison::default());
    queue.stands_at(at(1));
    queue.give_up(at(2));
    assert!(queue.has_appended(2) && !queue.is_ready());
    queue.secure(at(1));
    assert_eq!((queue.bytes(), queue.exposed()), (0, 0));
    assert_eq!(queue.stands_at(at(1)), Standing::Sound);
    queue.push(3, 10).unwrap();
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(3), last: at(3), after: at(1) }));
    assert_eq!(queue.stands_at(at(0)), Standing::Hole { lost: 1 });
}

#[test]
fn the_oldest_that_were_never_sent_make_room_and_leave_a_marker() {
    let mut queue = queue(10);
    queue.claimed(at(0), Comparison::default());
    queue.stands_at(at(1));
    queue.cut(LIMITS);
    let mut dropped = Vec::new();
    let range = queue.give_up_oldest(35, |item| dropped.push(item), |_, _| Some((99, 7)));
    assert_eq!((range, dropped), (Some((5, 8)), vec![5, 6, 7, 8]));
    assert_eq!((queue.bytes(), queue.pending()), (67, 9));
    queue.stands_at(at(4));
    let cut = queue.cut(LIMITS).unwrap();
    assert_eq!(cut, Cut { first: at(8), last: at(10), after: at(4) });
    let items: Vec<_> = queue.items_mut(cut).map(|(number, item)| (number.get(), *item)).collect();
    assert_eq!(items, [(8, 99), (9, 9), (10, 10)]);
}

#[test]
fn what_an_earlier_sidecar_left_keeps_its_numbers() {
    let left = [Some((3, 10)), None, Some((5, 10))];
    let mut queue = LaneQueue::resumed(1000, Some(at(100)), 2, left);
    assert_eq!(
        (queue.taken(), queue.cut(LIMITS)),
        (5, Some(Cut { first: at(103), last: at(103), after: at(102) }))
    );
    assert_eq!(queue.claimed(at(103), Comparison::default()), Standing::Sound);
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(105), last: at(105), after: at(103) }));
    queue.secure(at(103));
}

#[test]
fn more_in_redis_than_was_numbered_is_somebody_elses() {
    let mut queue = queue(5);
    queue.claimed(at(10), Comparison::default());
    assert_eq!(queue.stands_at(at(16)), Standing::Ahead);
}

/// The queue of a sidecar of which Redis had the first two messages when it stopped, at 10 and 11, and
/// whose messages are their own numbers before anybody else wrote. `theirs` is what Redis has above.
fn taken_over(theirs: &[(u64, u64)]) -> (LaneQueue<u64>, Standing) {
    let mut queue = LaneQueue::resumed(1000, Some(at(9)), 1, (11..=13).map(|message| Some((message, 10))));
    let last = at(theirs.last().map_or(10, |&(number, _)| number));
    let mut found = Comparison::default();
    for &(number, message) in theirs {
        found.see(at(number), queue.is_ours(at(number), |&ours| Some(ours == message)));
    }
    let standing = queue.claimed(last, found);
    (queue, standing)
}

#[test]
fn what_redis_has_of_ours_is_not_sent_again() {
    let (mut queue, standing) = taken_over(&[(11, 11), (12, 12)]);
    assert_eq!((standing, queue.pending(), queue.exposed()), (Standing::Sound, 1, 2));
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(13), last: at(13), after: at(12) }));
}

#[test]
fn what_another_wrote_under_our_numbers_is_not_taken_for_ours() {
    let (mut queue, standing) = taken_over(&[(11, 11), (12, 712)]);
    assert_eq!((standing, queue.safe_count()), (Standing::Ahead, 2));
    let cut = queue.cut(LIMITS).unwrap();
    assert_eq!(cut, Cut { first: at(13), last: at(14), after: at(12) });
    assert_eq!(queue.items_mut(cut).map(|(_, message)| *message).collect::<Vec<_>>(), [12, 13]);
    assert_eq!(queue.stands_at(at(10)), Standing::Hole { lost: 2 }, "theirs and ours, if both are lost");
}

#[test]
fn more_of_another_than_was_numbered_here_changes_nothing_of_that() {
    let (mut queue, standing) = taken_over(&[(11, 711), (12, 712), (13, 713), (14, 714)]);
    assert_eq!((standing, queue.safe_count()), (Standing::Ahead, 1));
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(15), last: at(17), after: at(14) }));
}

#[test]
fn what_cannot_be_compared_is_taken_for_ours() {
    let mut queue = LaneQueue::resumed(1000, Some(at(9)), 1, [None, Some((12, 10))]);
    let mut found = Comparison::default();
    found.see(at(11), queue.is_ours(at(11), |_| Some(true)));
    assert_eq!(queue.claimed(at(11), found), Standing::Sound);
    assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(12), last: at(12), after: at(11) }));
}

#[test]
fn something_may_stand_in_for_what_is_missing_before_what_is_left() {
    for (origin, last, missing, number) in
        [(Some(9), 11, (3, 5), 14), (Some(9), 4, (1, 5), 14), (None, 7, (1, 5), 12)]
    {
        let mut queue = LaneQueue::resumed(1000, origin.map(at), 5, [Some((6, 10))]);
        queue.claimed(at(last), Comparison::default());
        assert_eq!(queue.missing(), Some(missing));
        queue.stand_in(99, 7);
        assert_eq!(
            (queue.missing().is_some(), queue.pending(), queue.pending_bytes()),
            (missing.0 < 5, 2, 17)
        );
        assert_eq!(queue.stands_at(at(last)), Standing::Sound, "told before");
        let cut = queue.cut(LIMITS).unwrap();
        assert_eq!(cut, Cut { first: at(number), last: at(number + 1), after: at(last) });
        assert_eq!(queue.items_mut(cut).map(|(_, item)| *item).collect::<Vec<_>>(), [99, 6]);
        queue.stands_at(at(number + 1));
        queue.secure(at(number + 1));
        assert_eq!(
            (queue.missing(), queue.safe_count(), queue.bytes(), queue.pending_bytes()),
            (None, 6, 0, 0)
        );
    }
}
