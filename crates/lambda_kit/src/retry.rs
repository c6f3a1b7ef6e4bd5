use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::Failure;

/// Runs `decide`, and repeats it with a jittered backoff as long as its failure is stale, i.e. the data that it read
/// was changed before it wrote.
///
/// `decide` runs at most eleven times; the pauses are about 5 to 200 ms. The limit is enough even for a station at
/// which fifty callers write concurrently.
///
/// # Errors
/// Returns the last failure of `decide`, which is a conflict if every attempt was stale.
pub async fn retry_while_stale<T, F>(decide: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(10);
    decide.retry(pauses).when(Failure::is_stale).await
}
