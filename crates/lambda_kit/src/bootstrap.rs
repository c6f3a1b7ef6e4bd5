use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use futures::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};

use crate::config::{ConfigError, Env};
use crate::door::{Clock, Door};
use crate::payload::Payload;
use crate::request::Function;

/// Why a function did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics recorder or the runtime refused.
    #[error(transparent)]
    Runtime(#[from] lambda_runtime::Error),
}

/// Below the shortest function timeout (15 s), so that a hanging dependency is answered, not cut off.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a function: logs, metrics, one SDK configuration, what `init` makes of them, then invocations until the
/// environment is shut down.
///
/// # Errors
/// When a setting is missing or wrong, or the runtime cannot be reached.
pub async fn run<F: Function>(
    init: impl AsyncFnOnce(&Env, &SdkConfig) -> Result<F, BootError>,
) -> Result<(), BootError> {
    lambda_runtime::tracing::init_default_subscriber();
    let env = Env::of_process();
    let metrics = metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace("Evoke")
        .with_dimension("Function", F::NAME)
        .init()
        .map_err(|error| lambda_runtime::Error::from(error.to_string()))?;
    let sdk = sdk_config().await;
    // Boxed, here and below: the layout of `main`'s whole future would exceed the compiler's depth limit.
    let function = Box::pin(init(&env, &sdk)).await?;
    let door = Arc::new(Door::new(function, Clock::SYSTEM));
    let service = service_fn(move |event: LambdaEvent<Payload>| {
        let door = door.clone();
        let work = async move {
            let result = door.invoke(event).await;
            if let Err(error) = metrics.flush(std::io::stdout()) {
                tracing::warn!(%error, "metrics were not written");
            }
            result
        };
        work.boxed()
    });
    Ok(lambda_runtime::run(service).await?)
}

async fn sdk_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .load()
        .await
}
