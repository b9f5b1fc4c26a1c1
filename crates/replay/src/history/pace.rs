//! The rhythm of a replay. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// When each message is due, counted from the replay's begin.
#[derive(Debug, Clone)]
pub struct Pace {
    /// None: all at once.
    speed: Option<f64>,
    /// Longest silence that is kept, before the speed is applied.
    max_silence: Option<Duration>,
    last: Option<Timestamp>,
    /// Time of the run that has passed, in the replay.
    played: Duration,
}

impl Pace {
    /// A rhythm so many times as fast as the original; `None` is as fast as it goes.
    pub fn new(speed: Option<f64>, max_silence: Option<Duration>) -> Self {
        Self { speed, max_silence, last: None, played: Duration::ZERO }
    }

    /// When a message that was said at `time` is due; the first one at once. Times do not go back.
    pub fn due(&mut self, time: Timestamp) -> Duration {
        let Some(speed) = self.speed else { return Duration::ZERO };
        if let Some(last) = self.last {
            let silence = Duration::try_from(time.duration_since(last)).unwrap_or_default();
            self.played += self.max_silence.map_or(silence, |most| silence.min(most));
        }
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.played.div_f64(speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_shrink_with_the_speed_and_long_ones_to_the_limit() {
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let dues = |speed, max_silence: Option<u64>| {
            let mut pace = Pace::new(speed, max_silence.map(Duration::from_secs));
            [100, 101, 101, 99, 111].map(|at| pace.due(second(at)).as_millis())
        };
        assert_eq!(dues(Some(1.0), None), [0, 1000, 1000, 1000, 11_000]);
        assert_eq!(dues(Some(4.0), None), [0, 250, 250, 250, 2750]);
        assert_eq!(dues(Some(1.0), Some(2)), [0, 1000, 1000, 1000, 3000]);
        assert_eq!(dues(None, None), [0; 5]);
    }
}
