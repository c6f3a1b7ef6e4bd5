//! Entry point of the `poi_service` Lambda.

use lambda_kit::BootError;
use poi_service::{Config, PoiService};
use store::{Db, PoiStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let pois = PoiStore::new(Db::new(store::Client::new(sdk)), config.pois_table);
        pois.table().warm().await;
        Ok(PoiService::new(pois))
    })
    .await
}
