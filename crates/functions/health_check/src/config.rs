use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `health_check`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The names of the tables to check, separated by commas, e.g. `ev-stations-dev,ev-sessions-dev`.
    ///
    /// Environment variable `HEALTH_TABLES`.
    pub tables: Vec<String>,
    /// The name of the event bus to check, e.g. `ev-bus-dev`.
    ///
    /// Environment variable `EVENT_BUS`.
    pub event_bus: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["HEALTH_TABLES", "EVENT_BUS"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let tables = env.required("HEALTH_TABLES")?;
        let tables = tables.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { tables, event_bus: env.required("EVENT_BUS")? })
    }
}
