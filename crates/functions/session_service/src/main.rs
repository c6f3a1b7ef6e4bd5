//! Entry point of the `session_service` Lambda.

use lambda_kit::{BootError, Env, RemoteFunction};
use session_service::SessionService;
use store::{ChargingStore, UserStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let charging = ChargingStore::new(
            store::Client::new(sdk),
            env.required("STATIONS_TABLE")?,
            env.required("SESSIONS_TABLE")?,
        );
        let users = UserStore::new(charging.sessions.table().db().clone(), env.required("USERS_TABLE")?);
        charging.sessions.table().warm().await;
        Ok(SessionService::new(charging, users, RemoteFunction::new(sdk, env.required("BILLING_FUNCTION")?)))
    })
    .await
}
