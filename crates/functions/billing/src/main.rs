//! Entry point of the `billing` Lambda.

use billing::{Billing, Config};
use lambda_kit::{BootError, Redelivery};
use store::{BillingStore, Db, UserStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let store = BillingStore::new(Db::new(store::Client::new(sdk)), config.billing_table);
        let users = UserStore::new(store.table().db().clone(), config.users_table);
        store.table().warm().await;
        Ok(Billing::new(store, users, config.currency, Redelivery::new(sdk, config.queue_url)))
    })
    .await
}
