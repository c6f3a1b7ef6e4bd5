use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::sqs::SqsMessage;
use aws_sdk_sqs::Client;

use crate::{Code, Failure};

/// Before the second delivery, s. Every further one waits three times as long: 15, 45, 135, 405 s.
const FIRST: u64 = 15;
const GROWTH: u64 = 3;
const LONGEST: u64 = 3600;
/// What no delivery can handle need not wait for its dead-letter queue, s.
const HOPELESS: u64 = 1;

/// When a queue delivers a failed message again: after a delay that grows with every delivery.
///
/// SQS itself knows but one delay, the queue's visibility timeout. So the message's own is set, before the batch's
/// report says that it failed.
#[derive(Clone, Debug)]
pub struct Redelivery {
    client: Client,
    queue_url: String,
}

impl Redelivery {
    /// Of the messages of this queue.
    #[must_use]
    pub fn new(sdk: &SdkConfig, queue_url: String) -> Self {
        Self::with_client(Client::new(sdk), queue_url)
    }

    /// Of the messages of this queue, by this client.
    #[must_use]
    pub fn with_client(client: Client, queue_url: String) -> Self {
        Self { client, queue_url }
    }

    /// Postpones the next delivery of a message that failed. If that fails too, the queue's own timeout holds.
    pub(crate) async fn postpone(&self, message: &SqsMessage, failure: &Failure) {
        let Some(handle) = &message.receipt_handle else { return };
        let delay = delay(deliveries(message), failure.code);
        let set = self.client.change_message_visibility().queue_url(&self.queue_url).receipt_handle(handle);
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        if let Err(error) = set.visibility_timeout(seconds).send().await {
            let error = aws_sdk_sqs::error::DisplayErrorContext(error);
            tracing::warn!(%error, "the next delivery of a failed message was not postponed");
        }
    }
}

/// How often a message has been delivered, this time included.
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
    fn delays_grow_and_hopeless_messages_do_not_wait() {
        let seconds = |deliveries, code| delay(deliveries, code).as_secs();
        assert_eq!([1, 2, 3, 4, 60].map(|n| seconds(n, Code::Unavailable)), [15, 45, 135, 405, 3600]);
        assert_eq!([1, 4].map(|n| seconds(n, Code::Validation)), [1, 1]);
    }
}
