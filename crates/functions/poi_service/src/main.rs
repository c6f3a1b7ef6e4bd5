//! Entry point of the `poi_service` Lambda.

use lambda_kit::{BootError, Env};
use poi_service::PoiService;
use store::{Db, PoiStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let pois = PoiStore::new(Db::new(store::Client::new(sdk)), env.required("POIS_TABLE")?);
        pois.table().warm().await;
        Ok(PoiService::new(pois))
    })
    .await
}
