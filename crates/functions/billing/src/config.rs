use domain::money::Currency;
use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `billing`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of invoices and wallets, e.g. `ev-billing-dev`.
    ///
    /// Environment variable `BILLING_TABLE`.
    pub billing_table: String,
    /// The name of the table of users, e.g. `ev-users-dev`.
    ///
    /// Environment variable `USERS_TABLE`.
    pub users_table: String,
    /// The currency of the network, an ISO 4217 code, e.g. `EUR`.
    ///
    /// Environment variable `CURRENCY`.
    pub currency: Currency,
    /// The URL of the queue of ended sessions, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-billing-dev`.
    ///
    /// Environment variable `QUEUE_URL`.
    pub queue_url: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["BILLING_TABLE", "USERS_TABLE", "CURRENCY", "QUEUE_URL"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            billing_table: env.required("BILLING_TABLE")?,
            users_table: env.required("USERS_TABLE")?,
            currency: env.parsed("CURRENCY")?,
            queue_url: env.required("QUEUE_URL")?,
        })
    }
}
