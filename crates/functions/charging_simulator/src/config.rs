use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `charging_simulator`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of stations, e.g. `ev-stations-dev`.
    ///
    /// Environment variable `STATIONS_TABLE`.
    pub stations_table: String,
    /// The name of the table of sessions, e.g. `ev-sessions-dev`.
    ///
    /// Environment variable `SESSIONS_TABLE`.
    pub sessions_table: String,
    /// The number of shards into which a large fleet is divided, e.g. `16`. With `0` no fleet is divided.
    ///
    /// Environment variable `SIMULATOR_SHARDS`.
    pub shards: u32,
    /// The maximum number of active sessions that one invocation advances itself, e.g. `2000`. The function sends a
    /// larger fleet to the queue if there are shards.
    ///
    /// Environment variable `SIMULATOR_INLINE_SESSIONS`.
    pub inline_sessions: usize,
    /// The URL of the queue of shards, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-simulator-shards-dev`.
    ///
    /// Environment variable `SHARD_QUEUE_URL`.
    pub shard_queue_url: String,
    /// The name of the function that sends subscribers the progress of sessions, e.g. `ev-live-publisher-dev`. With
    /// `none`, no progress is sent.
    ///
    /// Environment variable `LIVE_PUBLISHER_FUNCTION`.
    pub live_publisher: Option<String>,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &[
        "STATIONS_TABLE",
        "SESSIONS_TABLE",
        "SIMULATOR_SHARDS",
        "SIMULATOR_INLINE_SESSIONS",
        "SHARD_QUEUE_URL",
        "LIVE_PUBLISHER_FUNCTION",
    ];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            stations_table: env.required("STATIONS_TABLE")?,
            sessions_table: env.required("SESSIONS_TABLE")?,
            shards: env.parsed("SIMULATOR_SHARDS")?,
            inline_sessions: env.parsed("SIMULATOR_INLINE_SESSIONS")?,
            shard_queue_url: env.required("SHARD_QUEUE_URL")?,
            live_publisher: env.required_or_none("LIVE_PUBLISHER_FUNCTION")?,
        })
    }
}
