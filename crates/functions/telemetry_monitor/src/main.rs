//! Entry point of the `telemetry_monitor` Lambda.

use domain::telemetry::Silence;
use lambda_kit::BootError;
use store::{Db, TelemetryStore};
use telemetry_monitor::{Config, TelemetryMonitor};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let states = TelemetryStore::new(Db::new(store::Client::new(sdk)), config.telemetry_table);
        Ok(TelemetryMonitor::new(states, Silence::of_interval(config.interval)))
    })
    .await
}
