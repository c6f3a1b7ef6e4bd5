//! Entry point of the `health_check` Lambda.

use health_check::{Config, HealthCheck};
use lambda_kit::BootError;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        Ok(HealthCheck::new(
            config.tables,
            Some(config.event_bus),
            aws_sdk_dynamodb::Client::new(sdk),
            aws_sdk_eventbridge::Client::new(sdk),
        ))
    })
    .await
}
