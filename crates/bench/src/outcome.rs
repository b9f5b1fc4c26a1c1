//! What was measured.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::server::System;

/// One measurement. Times in µs unless said; what a scenario does not measure is left out.
#[derive(Debug, Clone, Default, Serialize)]
#[expect(missing_docs, reason = "named as the tables' columns are; docs/benchmarks.md explains each")]
pub struct Outcome {
    pub scenario: &'static str,
    pub system: System,
    pub round: usize,
    pub viewers: usize,
    /// Messages a second that were offered, all runs together.
    pub rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_a_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_a_delivery: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_cpu_a_message: Option<f64>,
    /// Of the load generator, in the same time: 1 is a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_a_viewer: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_a_cpu_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges: Option<usize>,
    pub lost: u64,
    pub repeated: u64,
    pub cut_off: u64,
    /// Publishes that were refused.
    pub refused: u64,
}

/// Publish to receive, in ms.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "percentiles")]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// Of times in nanoseconds.
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: times.max() as f64 / 1e6 }
    }
}

impl Outcome {
    /// Nothing measured yet.
    pub fn new(scenario: &'static str, system: System, round: usize, viewers: usize, rate: f64) -> Self {
        Self { scenario, system, round, viewers, rate, ..Self::default() }
    }
}

/// In one line, for those who wait for the table.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}, {} viewers", self.scenario, self.system, self.viewers)?;
        let figures = [
            ("deliveries/s", self.deliveries_a_second),
            ("µs CPU", self.cpu_a_delivery),
            ("ms p99", self.latency.map(|latency| latency.p99)),
            ("B/viewer", self.bytes_a_viewer),
            ("connects/CPU s", self.connects_a_cpu_second),
            ("s", self.seconds),
            ("lost", (self.lost > 0).then_some(self.lost as f64)),
            ("repeated", (self.repeated > 0).then_some(self.repeated as f64)),
        ];
        for (unit, value) in figures {
            if let Some(value) = value {
                let digits = if value < 1000.0 { 1 } else { 0 };
                write!(f, ", {value:.digits$} {unit}")?;
            }
        }
        Ok(())
    }
}

/// The middle one; of an even number the mean of the two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[half - 1] + upper) / 2.0 })
}
