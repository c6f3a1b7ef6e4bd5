use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `poi_service`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of the OpenChargeMap mirror, e.g. `ev-ocm-pois-dev`.
    ///
    /// Environment variable `POIS_TABLE`.
    pub pois_table: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["POIS_TABLE"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { pois_table: env.required("POIS_TABLE")? })
    }
}
