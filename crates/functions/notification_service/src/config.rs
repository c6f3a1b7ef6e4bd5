use chrono::TimeDelta;
use domain::money::Currency;
use lambda_kit::{ConfigError, Env, FromEnv};
use rust_decimal::Decimal;

/// The configuration of `notification_service`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of the error log, e.g. `ev-error-logs-dev`.
    ///
    /// Environment variable `ERROR_LOGS_TABLE`.
    pub error_logs_table: String,
    /// How long entries of the error log are kept, whole days, e.g. `90`.
    ///
    /// Environment variable `ERROR_LOG_RETENTION_DAYS`.
    pub retention: TimeDelta,
    /// The ARN of the SNS topic for operators, e.g. `arn:aws:sns:eu-central-1:123456789012:ev-operators-dev`.
    ///
    /// Environment variable `OPERATORS_TOPIC_ARN`.
    pub operators_topic_arn: String,
    /// The ARN of the SNS topic for users, e.g. `arn:aws:sns:eu-central-1:123456789012:ev-users-dev`.
    ///
    /// Environment variable `USERS_TOPIC_ARN`.
    pub users_topic_arn: String,
    /// The URL of the queue of events to notify, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-notification-dev`.
    ///
    /// Environment variable `QUEUE_URL`.
    pub queue_url: String,
    /// The currency of the network, ISO 4217, e.g. `EUR`. It is the currency of `wallet_low`.
    ///
    /// Environment variable `CURRENCY`.
    pub currency: Currency,
    /// The balance below which a wallet is low, e.g. `10.00`. With `0`, no wallet is.
    ///
    /// Environment variable `WALLET_LOW_THRESHOLD`.
    pub wallet_low: Decimal,
    /// The e-mail address from which users get mails, e.g. `charging@example.com`. With `none`, they get none.
    ///
    /// Environment variable `MAIL_SENDER`.
    pub mail_sender: Option<String>,
    /// The configuration set of SES for mails, e.g. `ev-mails-dev`. It is used only if mails are sent.
    ///
    /// Environment variable `MAIL_CONFIGURATION_SET`.
    pub mail_configuration_set: String,
    /// The name of the table of users, e.g. `ev-users-dev`. It is read only if mails are sent.
    ///
    /// Environment variable `USERS_TABLE`.
    pub users_table: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &[
        "ERROR_LOGS_TABLE",
        "ERROR_LOG_RETENTION_DAYS",
        "OPERATORS_TOPIC_ARN",
        "USERS_TOPIC_ARN",
        "QUEUE_URL",
        "CURRENCY",
        "WALLET_LOW_THRESHOLD",
        "MAIL_SENDER",
        "MAIL_CONFIGURATION_SET",
        "USERS_TABLE",
    ];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let days: u32 = env.parsed("ERROR_LOG_RETENTION_DAYS")?;
        Ok(Self {
            error_logs_table: env.required("ERROR_LOGS_TABLE")?,
            retention: TimeDelta::days(days.into()),
            operators_topic_arn: env.required("OPERATORS_TOPIC_ARN")?,
            users_topic_arn: env.required("USERS_TOPIC_ARN")?,
            queue_url: env.required("QUEUE_URL")?,
            currency: env.parsed("CURRENCY")?,
            wallet_low: env.parsed("WALLET_LOW_THRESHOLD")?,
            mail_sender: sender(env)?,
            mail_configuration_set: env.required("MAIL_CONFIGURATION_SET")?,
            users_table: env.required("USERS_TABLE")?,
        })
    }
}

fn sender(env: &Env) -> Result<Option<String>, ConfigError> {
    let name = "MAIL_SENDER";
    let sender = env.required_or_none(name)?;
    if let Some(sender) = sender.as_ref().filter(|sender| !sender.contains('@')) {
        let source = "must be an e-mail address, or none".into();
        return Err(ConfigError::Invalid { name, value: Some(sender.clone()), source });
    }
    Ok(sender)
}
