use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `telemetry_handler`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of the latest states of battery-swap stations, e.g. `ev-telemetry-dev`.
    ///
    /// Environment variable `TELEMETRY_TABLE`.
    pub telemetry_table: String,
    /// The name of the bucket that archives the messages of battery-swap stations, e.g.
    /// `ev-telemetry-dev-123456789012-eu-central-1`.
    ///
    /// Environment variable `TELEMETRY_BUCKET`.
    pub telemetry_bucket: String,
    /// The URL of the queue of messages, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-telemetry-dev`.
    ///
    /// Environment variable `QUEUE_URL`.
    pub queue_url: String,
    /// The number of rejected messages of one station in five minutes above which they are reported, e.g. `10`.
    ///
    /// Environment variable `REJECTED_MESSAGES_LIMIT`.
    pub rejected_limit: usize,
    /// The name of the function that sends subscribers the changes of stations, e.g. `ev-live-publisher-dev`. With
    /// `none`, no changes are sent.
    ///
    /// Environment variable `LIVE_PUBLISHER_FUNCTION`.
    pub live_publisher: Option<String>,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["TELEMETRY_TABLE", "TELEMETRY_BUCKET", "QUEUE_URL", "REJECTED_MESSAGES_LIMIT", "LIVE_PUBLISHER_FUNCTION"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            telemetry_table: env.required("TELEMETRY_TABLE")?,
            telemetry_bucket: env.required("TELEMETRY_BUCKET")?,
            queue_url: env.required("QUEUE_URL")?,
            rejected_limit: env.parsed("REJECTED_MESSAGES_LIMIT")?,
            live_publisher: env.required_or_none("LIVE_PUBLISHER_FUNCTION")?,
        })
    }
}
