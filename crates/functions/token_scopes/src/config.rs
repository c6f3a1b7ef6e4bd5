use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `token_scopes`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of users, e.g. `ev-users-dev`.
    ///
    /// Environment variable `USERS_TABLE`.
    pub users_table: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["USERS_TABLE"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { users_table: env.required("USERS_TABLE")? })
    }
}
