//! Entry point of the `telemetry_handler` Lambda.

use lambda_kit::{BootError, Redelivery, RemoteFunction};
use store::{Archive, Db, S3Client, TelemetryStore};
use telemetry_handler::{Config, TelemetryHandler};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), config.telemetry_table);
        states.table().warm().await;
        let archive = Archive::new(S3Client::new(sdk), config.telemetry_bucket);
        let redelivery = Redelivery::new(sdk, config.queue_url);
        let live = config.live_publisher.map(|function| RemoteFunction::new(sdk, function));
        Ok(TelemetryHandler::new(states, archive, redelivery, config.rejected_limit).telling(live))
    })
    .await
}
