use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::Failure;

/// Decides and writes, and decides anew, after a jittered pause, while somebody else changed what the decision was
/// taken on. The last refusal is passed on: a station at which fifty callers write at once changes often, not for ever.
///
/// # Errors
/// Whatever `decide` fails with; a conflict when it was stale every time.
pub async fn decide<T, F>(decide: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(10);
    decide.retry(pauses).when(|failure| failure.stale).await
}
