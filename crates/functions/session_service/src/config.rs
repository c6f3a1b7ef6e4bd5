use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `session_service`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of stations, e.g. `ev-stations-dev`.
    ///
    /// Environment variable `STATIONS_TABLE`.
    pub stations_table: String,
    /// The name of the table of sessions, e.g. `ev-sessions-dev`.
    ///
    /// Environment variable `SESSIONS_TABLE`.
    pub sessions_table: String,
    /// The name of the table of users, e.g. `ev-users-dev`.
    ///
    /// Environment variable `USERS_TABLE`.
    pub users_table: String,
    /// The name of `billing`, which holds the money for prepaid sessions, e.g. `ev-billing-dev`.
    ///
    /// Environment variable `BILLING_FUNCTION`.
    pub billing_function: String,
    /// The URL of the queue of events that end sessions, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-charging-inbox-dev`.
    ///
    /// Environment variable `QUEUE_URL`.
    pub queue_url: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["STATIONS_TABLE", "SESSIONS_TABLE", "USERS_TABLE", "BILLING_FUNCTION", "QUEUE_URL"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            stations_table: env.required("STATIONS_TABLE")?,
            sessions_table: env.required("SESSIONS_TABLE")?,
            users_table: env.required("USERS_TABLE")?,
            billing_function: env.required("BILLING_FUNCTION")?,
            queue_url: env.required("QUEUE_URL")?,
        })
    }
}
