//! When the next token comes.

use std::time::Duration;

/// A writer's rhythm: even enough to read along, uneven enough to look alive. The same seed gives
/// the same rhythm.
pub(crate) struct Rhythm {
    beat: f64,
    state: u64,
}

impl Rhythm {
    /// Writes about `rate` tokens a second, pauses not counted.
    pub(crate) fn new(rate: f64, seed: u64) -> Self {
        let mut rhythm = Self { beat: 1.0 / rate, state: seed };
        // Neighbouring seeds give neighbouring first numbers otherwise.
        rhythm.random();
        rhythm
    }

    /// The wait after a token that left the text at `written`, with `rest` still to come.
    pub(crate) fn after(&mut self, written: &[u8], rest: &[u8]) -> Pause {
        let jitter = 0.4 + 1.2 * self.random();
        let heading = written.ends_with(b"\n") && rest.starts_with(b"#");
        let sentence = written.ends_with(b". ") || (is_stop(written) && rest.starts_with(b" "));
        let beats = match () {
            () if heading => 16.0 + 14.0 * self.random(),
            () if written.ends_with(b"\n\n") => 6.0 + 6.0 * self.random(),
            () if sentence && self.random() < 0.06 => 30.0,
            () if sentence => 3.0 + 4.0 * self.random(),
            () if written.ends_with(b"\n") => 2.0,
            () => 0.0,
        };
        Pause { wait: Duration::from_secs_f64(self.beat * (jitter + beats)), hesitated: beats >= 30.0 }
    }

    /// A number from 0 up to 1: Knuth's MMIX generator, of which the high bits are good.
    fn random(&mut self) -> f64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// A wait, and whether it is one of the long ones that a writer remarks on.
pub(crate) struct Pause {
    /// How long.
    pub(crate) wait: Duration,
    /// Whether it is longer than its place in the text explains.
    pub(crate) hesitated: bool,
}

fn is_stop(written: &[u8]) -> bool {
    written.ends_with(b".") || written.ends_with(b"?") || written.ends_with("。".as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_rhythm() {
        let waits = |seed| {
            let mut rhythm = Rhythm::new(35.0, seed);
            (0..50).map(move |_| rhythm.after(b"a", b"b").wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn tokens_come_at_the_rate_asked_for() {
        let mut rhythm = Rhythm::new(50.0, 3);
        let all: Duration = (0..5000).map(|_| rhythm.after(b"a", b"b").wait).sum();
        let rate = 5000.0 / all.as_secs_f64();
        assert!((45.0..55.0).contains(&rate), "{rate} tokens a second");
    }

    #[test]
    fn headings_and_sentences_are_waited_for() {
        let mut rhythm = Rhythm::new(10.0, 1);
        let mut mean = |written: &[u8], rest: &[u8]| -> f64 {
            (0..200).map(|_| rhythm.after(written, rest).wait.as_secs_f64()).sum::<f64>() / 200.0
        };
        let (word, stop, heading) = (mean(b"a", b" b"), mean(b"a.", b" B"), mean(b".\n\n", b"## B"));
        assert!(word < stop && stop < heading, "{word} {stop} {heading}");
    }
}
