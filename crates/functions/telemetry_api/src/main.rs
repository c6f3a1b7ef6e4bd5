//! Entry point of the `telemetry_api` Lambda.

use domain::telemetry::Silence;
use lambda_kit::BootError;
use store::{Archive, Db, S3Client, TelemetryStore};
use telemetry_api::{Config, TelemetryApi};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), config.telemetry_table);
        states.table().warm().await;
        let archive = Archive::new(S3Client::new(sdk), config.telemetry_bucket);
        Ok(TelemetryApi::new(states, archive, Silence::of_interval(config.interval)))
    })
    .await
}
