use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::config::SharedCredentialsProvider;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use futures::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};

use crate::config::{ConfigError, Env, FromEnv};
use crate::door::{Clock, Door};
use crate::function::Function;
use crate::measure::{self, CommonConfig};
use crate::payload::Payload;

/// The reason why a function failed to start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// An environment variable is missing or invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics recorder could not be installed, a client could not be created, or the Lambda runtime failed.
    #[error(transparent)]
    Runtime(#[from] lambda_runtime::Error),
}

/// Below the shortest function timeout (15 s), so that the function still answers when a dependency hangs.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a function and processes its invocations until Lambda shuts the environment down.
///
/// Sets up logs, reads the configuration of the function and the [`CommonConfig`] from the environment, sets up
/// metrics, and loads the SDK configuration that all clients share. Then `init` creates the function from its
/// configuration and that of the SDK.
///
/// # Errors
/// [`BootError::Config`] when an environment variable is missing or invalid. [`BootError::Runtime`] when the metrics
/// recorder cannot be installed or the Lambda runtime cannot be reached.
pub async fn run<C: FromEnv, F: Function>(
    init: impl AsyncFnOnce(C, &SdkConfig) -> Result<F, BootError>,
) -> Result<(), BootError> {
    lambda_runtime::tracing::init_default_subscriber();
    let env = Env::of_process();
    let config = C::from_env(&env)?;
    let metrics = measure::install(CommonConfig::from_env(&env)?)?;
    let sdk = sdk_config(&env)?;
    // Boxed here and below: otherwise the layout of `main`'s future exceeds the compiler's depth limit.
    let function = Box::pin(init(config, &sdk)).await?;
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

/// Returns the configuration that all clients of the SDK share.
///
/// Lambda sets the region and the credentials of the function's role as environment variables. The SDK's own search for
/// credentials in files and in other services would be a good part of a small package.
fn sdk_config(env: &Env) -> Result<SdkConfig, ConfigError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(env.required("AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .service_config(ServiceVariables(env.clone()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(4));
    config.set_endpoint_url(env.optional("AWS_ENDPOINT_URL"));
    Ok(config.build())
}

/// Environment variables that set an option of the SDK for one service, such as `AWS_ENDPOINT_URL_DYNAMODB`.
#[derive(Debug)]
struct ServiceVariables(Env);

impl LoadServiceConfig for ServiceVariables {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().replace(' ', "_").to_uppercase();
        self.0.optional(&format!("{}_{service}", key.env()))
    }
}
