//! Entry point of the `billing` Lambda.

use billing::Billing;
use domain::money::Currency;
use lambda_kit::{BootError, ConfigError, Env, Redelivery};
use store::{BillingStore, Db};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let store = BillingStore::new(Db::new(store::Client::new(sdk)), env.required("BILLING_TABLE")?);
        let currency = env.required("CURRENCY")?.parse::<Currency>();
        let currency = currency.map_err(|reason| ConfigError::Invalid { name: "CURRENCY", reason })?;
        store.table().warm().await;
        Ok(Billing::new(store, currency, Redelivery::new(sdk, env.required("QUEUE_URL")?)))
    })
    .await
}
