use lambda_kit::{ConfigError, Env, FromEnv};

use crate::DeadLetterQueues;

/// The configuration of `dlq_reconciler`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of invoices and wallets, e.g. `ev-billing-dev`.
    ///
    /// Environment variable `BILLING_TABLE`.
    pub billing_table: String,
    /// The name of the bucket for invalid messages, e.g. `ev-quarantine-dev-123456789012-eu-central-1`.
    ///
    /// Environment variable `QUARANTINE_BUCKET`.
    pub quarantine_bucket: String,
    /// The dead-letter queues by their ARNs, a JSON object, e.g.
    /// `{"arn": {"consumer": "BILLING", "url": "url", "source": "url"}}`. An entry also has a `function` if no event
    /// source mapping reads the queue `source`: the function that handles its messages.
    ///
    /// Environment variable `DEAD_LETTER_QUEUES`.
    pub queues: DeadLetterQueues,
    /// The maximum number of times that a message goes back to its queue, e.g. `3`.
    ///
    /// Environment variable `MAX_REPLAYS`.
    pub max_replays: u32,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["BILLING_TABLE", "QUARANTINE_BUCKET", "DEAD_LETTER_QUEUES", "MAX_REPLAYS"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let value = env.required("DEAD_LETTER_QUEUES")?;
        let queues = DeadLetterQueues::parse(&value).map_err(|error| ConfigError::Invalid {
            name: "DEAD_LETTER_QUEUES",
            value: None,
            source: error.into(),
        })?;
        Ok(Self {
            billing_table: env.required("BILLING_TABLE")?,
            quarantine_bucket: env.required("QUARANTINE_BUCKET")?,
            queues,
            max_replays: env.parsed("MAX_REPLAYS")?,
        })
    }
}
