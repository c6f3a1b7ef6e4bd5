use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `event_relay`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the event bus, e.g. `ev-bus-dev`.
    ///
    /// Environment variable `EVENT_BUS`.
    pub event_bus: String,
    /// The URL of the queue for events that can never be published, e.g.
    /// `https://sqs.eu-central-1.amazonaws.com/123456789012/ev-event-relay-dlq-dev`.
    ///
    /// Environment variable `SET_ASIDE_QUEUE_URL`.
    pub set_aside_queue_url: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] = &["EVENT_BUS", "SET_ASIDE_QUEUE_URL"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { event_bus: env.required("EVENT_BUS")?, set_aside_queue_url: env.required("SET_ASIDE_QUEUE_URL")? })
    }
}
