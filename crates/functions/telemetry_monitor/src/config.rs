use std::time::Duration;

use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `telemetry_monitor`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of the latest states of battery-swap stations, e.g. `ev-telemetry-dev`.
    ///
    /// Environment variable `TELEMETRY_TABLE`.
    pub telemetry_table: String,
    /// The interval at which a battery-swap station reports, whole seconds, e.g. `5`.
    ///
    /// Environment variable `TELEMETRY_INTERVAL_SECONDS`.
    pub interval: Duration,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["TELEMETRY_TABLE", "TELEMETRY_INTERVAL_SECONDS"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let seconds: u64 = env.parsed("TELEMETRY_INTERVAL_SECONDS")?;
        Ok(Self { telemetry_table: env.required("TELEMETRY_TABLE")?, interval: Duration::from_secs(seconds) })
    }
}
