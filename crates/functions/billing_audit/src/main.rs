//! Entry point of the `billing_audit` Lambda.

use billing_audit::{BillingAudit, Config};
use lambda_kit::{BootError, RemoteFunction};
use store::{BillingStore, Db, SessionStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let db = Db::new(store::Client::new(sdk));
        let sessions = SessionStore::new(db.clone(), config.sessions_table);
        let billing = BillingStore::new(db, config.billing_table);
        let notifications = RemoteFunction::new(sdk, config.notification_function);
        let itself = RemoteFunction::new(sdk, config.function_name);
        Ok(BillingAudit::new(sessions, billing, notifications, itself))
    })
    .await
}
