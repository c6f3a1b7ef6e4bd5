//! Entry point of the `station_service` Lambda.

use lambda_kit::{BootError, Env};
use station_service::StationService;
use store::ChargingStore;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let charging = ChargingStore::new(
            store::Client::new(sdk),
            env.required("STATIONS_TABLE")?,
            env.required("SESSIONS_TABLE")?,
        );
        charging.stations.table().warm().await;
        Ok(StationService::new(charging))
    })
    .await
}
