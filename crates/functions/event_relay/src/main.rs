//! Entry point of the `event_relay` Lambda.

use event_relay::EventRelay;
use lambda_kit::{BootError, Env};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let bus = env.required("EVENT_BUS")?;
        let set_aside = env.required("SET_ASIDE_QUEUE_URL")?;
        let sqs = aws_sdk_sqs::Client::new(sdk);
        Ok(EventRelay::new(aws_sdk_eventbridge::Client::new(sdk), bus, sqs, set_aside))
    })
    .await
}
