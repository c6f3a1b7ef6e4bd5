//! When a call is made again, and how a write whose answer was lost is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Stopwatch};

use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use backon::{ExponentialBuilder, Retryable};

use crate::error::StoreError;

/// A call that did not succeed within this time is not tried again: its caller, which has 15 s, still answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether an attempt at a write ended without an answer: it may have had its effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostAnswer(Arc<AtomicBool>);

impl LostAnswer {
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for LostAnswer {
    fn name(&self) -> &'static str {
        "LostAnswer"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_refused = context.response().is_some_and(|response| response.status().is_client_error());
        if !is_refused && !matches!(context.output_or_error(), Some(Ok(_))) {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Jittered pauses between tries: 20 ms to 1 s, 8 times at most.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(8)
}

/// Makes a call, and makes it again after a pause while the table is busy, works on a transaction or cannot be reached.
///
/// # Errors
/// The last error of the call.
pub(crate) async fn retrying<T, F>(call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let watch = Stopwatch::now();
    let tries = call.retry(backoff()).when(|error| error.is_retryable() && watch.elapsed() < PATIENCE);
    // Boxed: the layout of a whole handler's future would exceed the compiler's depth limit.
    Box::pin(tries.into_future()).await
}
