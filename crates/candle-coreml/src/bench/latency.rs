//! Times in order.

use std::time::Duration;

use serde::Serialize;

/// How long predictions take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// The fastest.
    pub min: f64,
    /// The median: half of them are as fast.
    pub p50: f64,
    /// 95 of 100 are as fast.
    pub p95: f64,
    /// 99 of 100 are as fast.
    pub p99: f64,
    /// Their mean.
    pub mean: f64,
    /// How many were measured.
    pub runs: usize,
    /// All of them, in the order in which they ran.
    #[serde(skip)]
    pub all: Vec<f64>,
}

impl Latency {
    pub(super) fn new(times: &[Duration]) -> Self {
        let all: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        Latency {
            min: percentile(&sorted, 0),
            p50: percentile(&sorted, 50),
            p95: percentile(&sorted, 95),
            p99: percentile(&sorted, 99),
            mean: all.iter().sum::<f64>() / all.len().max(1) as f64,
            runs: all.len(),
            all,
        }
    }
}

/// The least of some sorted numbers that so many of a hundred are not above.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The median of some numbers; `None` of none.
#[cfg(feature = "llm")]
pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() % 2 {
        1 => numbers.get(middle).copied(),
        _ => Some((numbers.get(middle.checked_sub(1)?)? + numbers.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let latency = Latency::new(&times);
        let Latency { min, p50, p95, p99, mean, runs, all } = latency;
        assert_eq!((min, p50, p95, p99, mean, runs), (1.0, 50.0, 95.0, 99.0, 50.5, 100));
        assert_eq!(all[0], 100.0);
        let one = Latency::new(&times[..1]);
        assert_eq!((one.min, one.p50, one.p99), (100.0, 100.0, 100.0));
        assert_eq!(Latency::new(&[]).p99, 0.0);
    }

    #[cfg(feature = "llm")]
    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
