//! Entry point of the `event_relay` Lambda.

use event_relay::{Config, EventRelay};
use lambda_kit::BootError;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let (bus, sqs) = (aws_sdk_eventbridge::Client::new(sdk), aws_sdk_sqs::Client::new(sdk));
        Ok(EventRelay::new(bus, config.event_bus, sqs, config.set_aside_queue_url))
    })
    .await
}
