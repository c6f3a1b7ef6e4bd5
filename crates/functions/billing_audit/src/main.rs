//! Entry point of the `billing_audit` Lambda.

use billing_audit::BillingAudit;
use lambda_kit::{BootError, Env, RemoteFunction};
use store::{BillingStore, Db, SessionStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let db = Db::new(store::Client::new(sdk));
        let sessions = SessionStore::new(db.clone(), env.required("SESSIONS_TABLE")?);
        let billing = BillingStore::new(db, env.required("BILLING_TABLE")?);
        let notifications = RemoteFunction::new(sdk, env.required("NOTIFICATION_FUNCTION")?);
        let itself = RemoteFunction::new(sdk, env.required("AWS_LAMBDA_FUNCTION_NAME")?);
        Ok(BillingAudit::new(sessions, billing, notifications, itself))
    })
    .await
}
