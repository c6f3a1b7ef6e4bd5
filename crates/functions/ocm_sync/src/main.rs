//! Entry point of the `ocm_sync` Lambda.

use lambda_kit::BootError;
use ocm_sync::{ApiKey, Config, OcmSync, Source};
use store::{Db, PoiStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let store = PoiStore::new(Db::new(store::Client::new(sdk)), config.pois_table);
        let key = ApiKey::parameter(sdk, config.api_key_parameter);
        let source = Source::new(config.base_url, key, config.page_size);
        Ok(OcmSync::new(store, source.map_err(|error| BootError::Runtime(error.into()))?))
    })
    .await
}
