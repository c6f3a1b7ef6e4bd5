//! Entry point of the `telemetry_monitor` Lambda.

use std::time::Duration;

use domain::telemetry::Silence;
use lambda_kit::{BootError, Env};
use store::{Db, TelemetryStore};
use telemetry_monitor::TelemetryMonitor;

/// The interval at which a station reports, s.
const INTERVAL_SECONDS: u64 = 5;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), env.required("TELEMETRY_TABLE")?);
        let interval = Duration::from_secs(env.parsed("TELEMETRY_INTERVAL_SECONDS", INTERVAL_SECONDS)?);
        Ok(TelemetryMonitor::new(states, Silence::of_interval(interval)))
    })
    .await
}
