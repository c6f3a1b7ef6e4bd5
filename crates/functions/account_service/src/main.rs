//! Entry point of the `account_service` Lambda.

use account_service::{AccountService, Config, SignInRules, UserPool};
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use lambda_kit::{BootError, RemoteFunction};
use store::{Db, UserStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let users = UserStore::new(Db::new(store::Client::new(sdk)), config.users_table);
        users.table().warm().await;
        let pool = UserPool::new(Cognito::new(sdk), config.user_pool_id, config.user_pool_client_id);
        let rules = SignInRules { auto_confirm: config.auto_confirm };
        let sessions = RemoteFunction::new(sdk, config.session_function);
        let billing = RemoteFunction::new(sdk, config.billing_function);
        Ok(AccountService::new(users, pool, sessions, billing, rules))
    })
    .await
}
