//! Entry point of the `event_relay` Lambda.

use event_relay::EventRelay;
use lambda_kit::{BootError, Env};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        Ok(EventRelay::new(aws_sdk_eventbridge::Client::new(sdk), env.required("EVENT_BUS")?))
    })
    .await
}
