use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `billing_audit`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of sessions, e.g. `ev-sessions-dev`.
    ///
    /// Environment variable `SESSIONS_TABLE`.
    pub sessions_table: String,
    /// The name of the table of invoices and wallets, e.g. `ev-billing-dev`.
    ///
    /// Environment variable `BILLING_TABLE`.
    pub billing_table: String,
    /// The name of `notification_service`, which reports defects, e.g. `ev-notification-service-dev`.
    ///
    /// Environment variable `NOTIFICATION_FUNCTION`.
    pub notification_function: String,
    /// The name of this function, which invokes itself for the rest of an audit, e.g. `ev-billing-audit-dev`.
    ///
    /// Environment variable `AWS_LAMBDA_FUNCTION_NAME`, which AWS sets.
    pub function_name: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["SESSIONS_TABLE", "BILLING_TABLE", "NOTIFICATION_FUNCTION", "AWS_LAMBDA_FUNCTION_NAME"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            sessions_table: env.required("SESSIONS_TABLE")?,
            billing_table: env.required("BILLING_TABLE")?,
            notification_function: env.required("NOTIFICATION_FUNCTION")?,
            function_name: env.required("AWS_LAMBDA_FUNCTION_NAME")?,
        })
    }
}
