//! Entry point of the `live_publisher` Lambda.

use lambda_kit::BootError;
use live_publisher::{Api, Config, LivePublisher};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let api = Api::new(config.graphql_url, sdk).map_err(BootError::Runtime)?;
        Ok(LivePublisher::new(api))
    })
    .await
}
