//! Entry point of the `telemetry_handler` Lambda.

use lambda_kit::{BootError, Env, Redelivery};
use store::{Archive, Db, S3Client, TelemetryStore};
use telemetry_handler::TelemetryHandler;

/// The number of rejected messages of one station in five minutes above which they are reported.
const REJECTED_LIMIT: usize = 10;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), env.required("TELEMETRY_TABLE")?);
        states.table().warm().await;
        let archive = Archive::new(S3Client::new(sdk), env.required("TELEMETRY_BUCKET")?);
        let redelivery = Redelivery::new(sdk, env.required("QUEUE_URL")?);
        let limit = env.parsed("REJECTED_MESSAGES_LIMIT", REJECTED_LIMIT)?;
        Ok(TelemetryHandler::new(states, archive, redelivery, limit))
    })
    .await
}
