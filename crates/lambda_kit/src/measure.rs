//! What every function measures, and how metrics leave it.
//!
//! Metrics are written to the log in the embedded metric format of CloudWatch. A metric has no dimension, so that one
//! alarm covers the whole stack. Metrics that have the same meaning in several functions have the dimension `Function`.

use domain::error::BoxError;
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::Failure;
use crate::config::{ConfigError, Env, FromEnv};

/// The maximum number of values of a metric in one flush. The collector reports each further value as an error.
pub const MAX_VALUES: usize = 100;

/// The configuration that every function has.
#[derive(Clone, Debug)]
pub struct CommonConfig {
    /// The namespace of all metrics, e.g. `Evoke/dev`. Each environment has its own.
    ///
    /// Environment variable `METRICS_NAMESPACE`.
    pub metrics_namespace: String,
}

impl FromEnv for CommonConfig {
    const VARIABLES: &'static [&'static str] = &["METRICS_NAMESPACE"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { metrics_namespace: env.required("METRICS_NAMESPACE")? })
    }
}

/// Installs the collector of all metrics of this process.
pub(crate) fn install(config: CommonConfig) -> Result<&'static Collector, BoxError> {
    Builder::new().cloudwatch_namespace(config.metrics_namespace).init()
}

/// Counts a failure of the platform, about which an alarm tells. Refusals are not counted: callers cause them.
///
/// A failure that answers an invocation is counted already.
pub fn count_failure(failure: &Failure) {
    if failure.is_ours() {
        metrics::counter!("InternalFailures").increment(1);
    }
}

/// Records at most [`MAX_VALUES`] of the values, evenly spread, so that a large batch does not exceed one flush.
pub fn record_sample(histogram: &metrics::Histogram, values: &[f64]) {
    let step = values.len().div_ceil(MAX_VALUES).max(1);
    for value in values.iter().step_by(step) {
        histogram.record(*value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// A histogram that keeps its values.
    #[derive(Default)]
    struct Kept(Mutex<Vec<f64>>);

    impl HistogramFn for Kept {
        fn record(&self, value: f64) {
            self.0.lock().unwrap().push(value);
        }
    }

    #[test]
    fn a_sample_fits_into_a_flush_and_is_spread_over_all_values() {
        let cases: [(u32, usize); 7] = [(0, 0), (1, 1), (100, 100), (101, 51), (199, 100), (500, 100), (10_000, 100)];
        for (count, recorded) in cases {
            let kept = Arc::new(Kept::default());
            let values: Vec<f64> = (0..count).map(f64::from).collect();
            record_sample(&Histogram::from_arc(kept.clone()), &values);
            let kept = kept.0.lock().unwrap();
            assert_eq!(kept.len(), recorded, "of {count}");
            let step = f64::from(count) / 50.0 + 1.0;
            assert!(kept.windows(2).all(|pair| pair[1] - pair[0] <= step), "of {count}: {kept:?}");
            assert!(kept.last().is_none_or(|last| f64::from(count) - last <= step), "of {count}: {kept:?}");
        }
    }

    /// A recorder for a single counter.
    #[derive(Default)]
    struct Counted(Arc<AtomicU64>);

    impl Recorder for Counted {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            assert_eq!((key.name(), key.labels().count()), ("InternalFailures", 0));
            Counter::from_arc(self.0.clone())
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn failures_of_the_platform_are_counted_and_refusals_are_not() {
        let failures = [
            (Failure::internal("a bug"), 1),
            (Failure::panicked(&"a bug"), 1),
            (Failure::unavailable("no table"), 1),
            (Failure::invalid("field", "is wrong"), 0),
            (Failure::Forbidden("no".to_owned()), 0),
            (Failure::NotFound("nothing".to_owned()), 0),
            (Failure::stale("changed"), 0),
            (Failure::TooManyRequests("later".to_owned()), 0),
        ];
        for (failure, expected) in failures {
            let counted = Counted::default();
            metrics::with_local_recorder(&counted, || count_failure(&failure));
            assert_eq!(counted.0.load(Ordering::Relaxed), expected, "{failure}");
        }
    }
}
