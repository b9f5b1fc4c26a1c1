//! Viewers of compressed streams who share what is compressed: whoever enters, lags, leaves or comes back reads
//! every frame once.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use runcast_protocol::{Cursor, Entry, Lane, Selection, Sequence, sse};
use runcast_sse_fanout::compression::Encoding;
use runcast_sse_fanout::compression::passage::Passage;
use runcast_sse_fanout::compression::stitch::Stitch;
use runcast_sse_fanout::compression::track::{Place, Read};
use runcast_sse_fanout::ring::RingLimits;
use runcast_sse_fanout::ring_reader::RingReader;
use runcast_sse_fanout::view::View;

fn view(frames: usize) -> Arc<View> {
    let limits = RingLimits { frames, bytes: 64 << 20 };
    Arc::new(View::new(Selection::default(), Cursor::default(), limits))
}

/// Text that hardly repeats itself.
fn text(number: u64, length: usize) -> String {
    let mut hash = number;
    let letters = std::iter::repeat_with(|| {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((hash >> 40) % 26).unwrap())
    });
    letters.take(length).collect()
}

fn say(view: &Arc<View>, number: u64, length: usize) {
    let lane: Lane = "output/a".parse().unwrap();
    let variation = lane.writer.variation().unwrap().clone();
    let line = Bytes::from(text(number, length));
    view.push(&lane, &[Entry { sequence: Sequence::new(number).unwrap(), variation, line }]);
    view.flush();
}

fn plain(sent: &[u8], encoding: Encoding) -> Vec<u8> {
    let mut seen = Vec::new();
    if sent.is_empty() {
        return seen;
    }
    match encoding {
        Encoding::Zstd => zstd::Decoder::new(sent).unwrap().read_to_end(&mut seen),
        Encoding::Br => brotli::Decompressor::new(sent, 4096).read_to_end(&mut seen),
        Encoding::Gzip => flate2::read::GzDecoder::new(sent).read_to_end(&mut seen),
    }
    .unwrap();
    seen
}

/// A viewer, as [`CompressedViewer`](runcast_sse_fanout::compression::stream::CompressedViewer) goes about it.
struct Watcher {
    stitch: Stitch,
    sent: Vec<u8>,
    reader: RingReader,
    passage: Option<Passage>,
    place: Option<Place>,
    after: u64,
    /// Frames that were compressed for it alone.
    alone: usize,
    is_lost: bool,
}

impl Watcher {
    fn new(view: &View, encoding: Encoding) -> Self {
        let ring = view.ring();
        let reader = RingReader::enter(&ring, ring.head()).unwrap();
        let (stitch, after) = (Stitch::new(encoding), ring.end());
        let (sent, passage, place, alone) = (Vec::new(), None, None, 0);
        Self { stitch, sent, reader, passage, place, after, alone, is_lost: false }
    }

    /// Takes one step; whether there was anything to do.
    fn step(&mut self, view: &View) -> bool {
        let track = view.track(self.stitch.encoding());
        if let Some(place) = &mut self.place {
            match track.read(view, place).unwrap() {
                Read::Piece(piece, after) => {
                    self.reader = after;
                    self.sent.extend_from_slice(&self.stitch.add(&piece));
                }
                Read::Nothing => return false,
                Read::Left => (self.place, self.passage) = (None, None),
            }
            return true;
        }
        let Some(frames) = self.reader.read(&view.ring()) else {
            // It would read from the streams.
            self.is_lost = true;
            return false;
        };
        if frames.is_empty() {
            self.place = track.enter(view, &self.reader).unwrap();
            return self.place.is_some();
        }
        self.alone += 1;
        let passage = self.passage.get_or_insert_with(|| Passage::new(self.stitch.encoding()).unwrap());
        self.sent.extend_from_slice(&self.stitch.add(&passage.write(&frames).unwrap()));
        true
    }

    /// The numbers of the messages that it got.
    fn seen(mut self, lengths: &[usize]) -> (u64, Vec<u64>) {
        let encoding = self.stitch.encoding();
        self.sent.extend_from_slice(&self.stitch.finish());
        let text_of = |id: &str| id.strip_prefix("a:").unwrap().parse::<u64>().unwrap();
        let events = sse::Parser::default().push(&plain(&self.sent, encoding));
        let numbers = events.into_iter().map(|event| {
            let number = text_of(&event.id);
            assert_eq!(event.data, text(number, lengths[usize::try_from(number).unwrap() - 1]));
            number
        });
        (self.after, numbers.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn everybody_reads_every_frame_once(
        turns in prop::collection::vec((0..9_u8, 1..3000_usize), 1..400),
        which in 0..3_usize,
        frames in prop::sample::select(vec![4_usize, 1000]),
    ) {
        let (encoding, view) = (Encoding::ALL[which], view(frames));
        let mut watchers: Vec<Watcher> = Vec::new();
        let (mut lengths, mut gone) = (Vec::new(), Vec::new());
        for (turn, size) in turns {
            match turn {
                0 if watchers.len() < 6 => watchers.push(Watcher::new(&view, encoding)),
                0 => gone.push(watchers.swap_remove(size % watchers.len())),
                1..4 => {
                    lengths.push(size);
                    say(&view, lengths.len() as u64, size);
                }
                4 => view.track(encoding).beat(Duration::ZERO),
                _ if watchers.is_empty() => {}
                _ => {
                    let index = size % watchers.len();
                    watchers[index].step(&view);
                    if watchers[index].is_lost {
                        gone.push(watchers.swap_remove(index));
                    }
                }
            }
        }
        for mut watcher in watchers {
            while watcher.step(&view) {}
            let is_lost = watcher.is_lost;
            let (after, seen) = watcher.seen(&lengths);
            let last = if is_lost { after + seen.len() as u64 } else { lengths.len() as u64 };
            prop_assert_eq!(seen, (after + 1..=last).collect::<Vec<_>>());
        }
        for watcher in gone {
            let (after, seen) = watcher.seen(&lengths);
            prop_assert_eq!(&seen, &(after + 1..=after + seen.len() as u64).collect::<Vec<_>>());
        }
    }
}

#[test]
fn many_who_watch_alike_are_compressed_for_once() {
    for encoding in Encoding::ALL {
        let view = view(1000);
        let mut watchers: Vec<_> = (0..100).map(|_| Watcher::new(&view, encoding)).collect();
        for number in 1..=200 {
            say(&view, number, 200);
            for watcher in &mut watchers {
                while watcher.step(&view) {}
            }
        }
        let alone: usize = watchers.iter().map(|watcher| watcher.alone).sum();
        // Each but the first begins alone: all came before there was a track.
        assert!(alone <= watchers.len(), "{encoding:?}: {alone} frames were compressed for one viewer");
        let first = watchers.pop().unwrap().seen(&[200; 200]);
        assert!(watchers.into_iter().all(|watcher| watcher.seen(&[200; 200]) == first));
        assert_eq!(first, (0, (1..=200).collect()));
    }
}
