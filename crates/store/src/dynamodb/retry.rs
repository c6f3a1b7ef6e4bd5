//! The rules for when a call is retried, and the detection of writes whose response was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Stopwatch};

use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use backon::{ExponentialBuilder, Retryable};

use crate::error::StoreError;

/// The time after which a failed call is not retried any more. The caller has 15 s and can still respond.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether an attempt at a write ended without a response, so that it may have taken effect.
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

/// Returns the jittered pauses between tries: from 20 ms to 1 s, at most 8 times.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(8)
}

/// Makes a call, and repeats it after a pause while the table is busy, is processing a transaction or cannot be
/// reached.
///
/// # Errors
/// The last error of the call.
pub(crate) async fn retrying<T, F>(call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let watch = Stopwatch::now();
    let tries = call.retry(backoff()).when(|error| error.is_retryable() && watch.elapsed() < PATIENCE);
    // The future is boxed because the layout of a whole handler's future would exceed the compiler's depth limit.
    Box::pin(tries.into_future()).await
}
