//! Entry point of the `ocm_sync` Lambda.

use lambda_kit::{BootError, ConfigError, Env};
use ocm_sync::{ApiKey, OcmSync, Source};
use store::{Db, PoiStore};

/// The URL of OpenChargeMap's API.
const BASE_URL: &str = "https://api.openchargemap.io";
/// The number of records on a page.
const PAGE_SIZE: u32 = 5000;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let store = PoiStore::new(Db::new(store::Client::new(sdk)), env.required("POIS_TABLE")?);
        let key = ApiKey::parameter(sdk, env.required("OCM_API_KEY_PARAMETER")?);
        let base_url = env.optional("OCM_BASE_URL").unwrap_or_else(|| BASE_URL.to_owned());
        let source = Source::new(base_url, key, env.parsed("OCM_PAGE_SIZE", PAGE_SIZE)?);
        let wrong = |error| ConfigError::Invalid { name: "OCM_BASE_URL", reason: format!("{error}") };
        Ok(OcmSync::new(store, source.map_err(wrong)?))
    })
    .await
}
