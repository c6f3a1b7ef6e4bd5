use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `station_service`.
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
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["STATIONS_TABLE", "SESSIONS_TABLE"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { stations_table: env.required("STATIONS_TABLE")?, sessions_table: env.required("SESSIONS_TABLE")? })
    }
}
