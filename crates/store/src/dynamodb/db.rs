use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;

use super::capacity::Capacity;

/// A `DynamoDB` client that counts the capacity its calls consume and retries calls that failed because of contention.
///
/// Only this client retries. The SDK's own retries are turned off, because they do not cover conflicts with
/// transactions and would multiply the time that a caller waits.
#[derive(Clone, Debug)]
pub struct Db {
    client: Client,
    capacity: Capacity,
}

impl Db {
    /// Creates the client wrapper with its counters at zero.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // a client is a handle, and every caller has one to give
    pub fn new(client: Client) -> Self {
        let config = client.config().to_builder().retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(config.build()), capacity: Capacity::default() }
    }

    /// Returns the client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the capacity that the calls consumed.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}
