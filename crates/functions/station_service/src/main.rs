//! Entry point of the `station_service` Lambda.

use lambda_kit::BootError;
use station_service::{Config, StationService};
use store::ChargingStore;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let charging = ChargingStore::new(store::Client::new(sdk), config.stations_table, config.sessions_table);
        charging.stations.table().warm().await;
        Ok(StationService::new(charging))
    })
    .await
}
