use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;

use super::capacity::Capacity;

/// A `DynamoDB` client that counts the capacity its calls consume and retries what contention refused.
///
/// It alone retries: the SDK's own retries are turned off, since they leave out conflicts with transactions and multiply
/// the time that a caller waits.
#[derive(Clone, Debug)]
pub struct Db {
    client: Client,
    capacity: Capacity,
}

impl Db {
    /// Counts from zero.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // a client is a handle, and every caller has one to give
    pub fn new(client: Client) -> Self {
        let config = client.config().to_builder().retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(config.build()), capacity: Capacity::default() }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What its calls consumed.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}
