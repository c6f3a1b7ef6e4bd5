//! Entry point of the `session_service` Lambda.

use lambda_kit::{BootError, RemoteFunction};
use session_service::{Config, Inbox, SessionService};
use store::{ChargingStore, UserStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let charging = ChargingStore::new(store::Client::new(sdk), config.stations_table, config.sessions_table);
        let users = UserStore::new(charging.sessions.table().db().clone(), config.users_table);
        charging.sessions.table().warm().await;
        let billing = RemoteFunction::new(sdk, config.billing_function);
        let inbox = Inbox::new(sdk, config.queue_url);
        Ok(SessionService::new(charging, users, billing, inbox))
    })
    .await
}
