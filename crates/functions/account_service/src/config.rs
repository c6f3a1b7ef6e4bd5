use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `account_service`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of users, e.g. `ev-users-dev`.
    ///
    /// Environment variable `USERS_TABLE`.
    pub users_table: String,
    /// The id of the user pool, e.g. `eu-central-1_AbCdEfGhI`.
    ///
    /// Environment variable `USER_POOL_ID`.
    pub user_pool_id: String,
    /// The id of the one app client of the user pool.
    ///
    /// Environment variable `USER_POOL_CLIENT_ID`.
    pub user_pool_client_id: String,
    /// The name of the function `session_service`.
    ///
    /// Environment variable `SESSION_FUNCTION`.
    pub session_function: String,
    /// The name of the function `billing`.
    ///
    /// Environment variable `BILLING_FUNCTION`.
    pub billing_function: String,
    /// Whether a new user can sign in without confirming the e-mail address by a code.
    ///
    /// Environment variable `AUTO_CONFIRM`: `true` or `false`.
    pub auto_confirm: bool,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["USERS_TABLE", "USER_POOL_ID", "USER_POOL_CLIENT_ID", "SESSION_FUNCTION", "BILLING_FUNCTION", "AUTO_CONFIRM"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            users_table: env.required("USERS_TABLE")?,
            user_pool_id: env.required("USER_POOL_ID")?,
            user_pool_client_id: env.required("USER_POOL_CLIENT_ID")?,
            session_function: env.required("SESSION_FUNCTION")?,
            billing_function: env.required("BILLING_FUNCTION")?,
            auto_confirm: env.parsed("AUTO_CONFIRM")?,
        })
    }
}
