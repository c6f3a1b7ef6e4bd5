use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::sqs::SqsMessage;
use aws_sdk_sqs::Client;
use domain::error::Chain;
use store::AwsError;

use crate::{Code, Failure};

/// Delay before the second delivery, s. Each further delay is three times as long: 15, 45, 135, 405 s.
const FIRST: u64 = 15;
const GROWTH: u64 = 3;
const LONGEST: u64 = 3600;
/// Delay for a message that no delivery can process, s. It may reach its dead-letter queue without waiting.
const HOPELESS: u64 = 1;

/// The schedule for delivering failed messages again: the delay grows with each delivery.
///
/// SQS has only one delay for a queue, its visibility timeout. Therefore the visibility timeout of each failed message
/// is changed before the batch response reports the message as failed.
#[derive(Clone, Debug)]
pub struct Redelivery {
    client: Client,
    queue_url: String,
}

impl Redelivery {
    /// Creates the schedule for the messages of this queue.
    #[must_use]
    pub fn new(sdk: &SdkConfig, queue_url: String) -> Self {
        Self::with_client(Client::new(sdk), queue_url)
    }

    /// Creates the schedule for the messages of this queue, with the given client.
    #[must_use]
    pub fn with_client(client: Client, queue_url: String) -> Self {
        Self { client, queue_url }
    }

    /// Postpones the next delivery of a failed message. If that fails, the visibility timeout of the queue applies.
    pub(crate) async fn postpone(&self, message: &SqsMessage, failure: &Failure) {
        let Some(handle) = &message.receipt_handle else { return };
        let delay = delay(deliveries(message), failure.code());
        let set = self.client.change_message_visibility().queue_url(&self.queue_url).receipt_handle(handle);
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        if let Err(error) = set.visibility_timeout(seconds).send().await {
            let error = AwsError::from(error);
            tracing::warn!(error = %Chain(&error), "the next delivery of a failed message was not postponed");
        }
    }
}

/// Returns how often a message has been delivered, including this time.
fn deliveries(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn delay(deliveries: u32, code: Code) -> Duration {
    let seconds = match code {
        Code::Validation => HOPELESS,
        _ => FIRST.saturating_mul(GROWTH.saturating_pow(deliveries.saturating_sub(1))).min(LONGEST),
    };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_invalid_messages_are_not_delayed() {
        let seconds = |deliveries, code| delay(deliveries, code).as_secs();
        assert_eq!([1, 2, 3, 4, 60].map(|n| seconds(n, Code::Unavailable)), [15, 45, 135, 405, 3600]);
        assert_eq!([1, 4].map(|n| seconds(n, Code::Validation)), [1, 1]);
    }
}
