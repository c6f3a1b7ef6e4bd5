use lambda_kit::{ConfigError, Env, FromEnv};
use reqwest::Url;

/// The configuration of `live_publisher`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the GraphQL API, e.g. `https://abc.appsync-api.eu-central-1.amazonaws.com/graphql`.
    ///
    /// Environment variable `GRAPHQL_URL`.
    pub graphql_url: Url,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["GRAPHQL_URL"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { graphql_url: env.parsed("GRAPHQL_URL")? })
    }
}
