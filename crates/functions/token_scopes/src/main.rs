//! Entry point of the `token_scopes` Lambda.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use lambda_kit::BootError;
use store::{Client, Db, UserStore};
use token_scopes::{Config, TokenScopes};

/// The function waits no longer for all its calls together.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(3_500);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(ATTEMPT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let sdk = sdk.clone().into_builder().timeout_config(timeouts).build();
        let users = UserStore::new(Db::new(Client::new(&sdk)), config.users_table);
        users.table().warm().await;
        Ok(TokenScopes::new(users))
    })
    .await
}
