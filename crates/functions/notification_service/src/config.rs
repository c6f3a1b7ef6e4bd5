use chrono::TimeDelta;
use lambda_kit::{ConfigError, Env, FromEnv};

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
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["ERROR_LOGS_TABLE", "ERROR_LOG_RETENTION_DAYS", "OPERATORS_TOPIC_ARN", "USERS_TOPIC_ARN", "QUEUE_URL"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let days: u32 = env.parsed("ERROR_LOG_RETENTION_DAYS")?;
        Ok(Self {
            error_logs_table: env.required("ERROR_LOGS_TABLE")?,
            retention: TimeDelta::days(days.into()),
            operators_topic_arn: env.required("OPERATORS_TOPIC_ARN")?,
            users_topic_arn: env.required("USERS_TOPIC_ARN")?,
            queue_url: env.required("QUEUE_URL")?,
        })
    }
}
