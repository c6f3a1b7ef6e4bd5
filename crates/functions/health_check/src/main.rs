//! Entry point of the `health_check` Lambda.

use health_check::HealthCheck;
use lambda_kit::{BootError, Env};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        Ok(HealthCheck::new(
            env.list("HEALTH_TABLES"),
            env.optional("EVENT_BUS"),
            aws_sdk_dynamodb::Client::new(sdk),
            aws_sdk_eventbridge::Client::new(sdk),
        ))
    })
    .await
}
