//! Entry point of the `telemetry_api` Lambda.

use std::time::Duration;

use domain::telemetry::Silence;
use lambda_kit::{BootError, Env};
use store::{Archive, Db, S3Client, TelemetryStore};
use telemetry_api::TelemetryApi;

/// The interval at which a station reports, s.
const INTERVAL_SECONDS: u64 = 5;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), env.required("TELEMETRY_TABLE")?);
        states.table().warm().await;
        let archive = Archive::new(S3Client::new(sdk), env.required("TELEMETRY_BUCKET")?);
        let interval = Duration::from_secs(env.parsed("TELEMETRY_INTERVAL_SECONDS", INTERVAL_SECONDS)?);
        Ok(TelemetryApi::new(states, archive, Silence::of_interval(interval)))
    })
    .await
}
