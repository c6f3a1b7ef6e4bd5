use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use domain::dead_letter::REPLAYS_ATTRIBUTE;
use lambda_kit::{AwsError, Failure};
use serde_json::{Value, json};

/// The maximum number of messages that SQS returns at once.
const BATCH: i32 = 10;
/// How long a receive waits for a message, s. A receive that does not wait asks only some servers of SQS, and can miss
/// a message.
const WAIT: i32 = 1;
/// Delay before the first replay, s. Each further delay is four times as long, up to the maximum of SQS.
const FIRST_DELAY: i32 = 15;
const LONGEST_DELAY: i32 = 900;

/// The queues, by their URLs.
#[derive(Clone, Debug)]
pub(crate) struct Sqs(pub Client);

impl Sqs {
    /// Receives up to ten messages. Nobody else receives them within the visibility timeout of their queue.
    pub async fn receive(&self, queue: &str) -> Result<Vec<Message>, Failure> {
        let receive = self.0.receive_message().queue_url(queue).max_number_of_messages(BATCH).wait_time_seconds(WAIT);
        let receive = receive
            .message_attribute_names(REPLAYS_ATTRIBUTE)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let answer = receive.send().await.map_err(AwsError::from).map_err(Failure::unavailable)?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// Deletes a message that was received.
    pub async fn delete(&self, queue: &str, message: &Message) -> Result<(), Failure> {
        let delete = self.0.delete_message().queue_url(queue).set_receipt_handle(message.receipt_handle.clone());
        delete.send().await.map(|_| ()).map_err(AwsError::from).map_err(Failure::unavailable)
    }

    /// Sends a message back to its queue, to which it has gone back `replays` times before.
    pub async fn send_back(&self, queue: &str, body: &str, replays: u32) -> Result<(), Failure> {
        let count = MessageAttributeValue::builder().data_type("Number").string_value((replays + 1).to_string());
        self.0
            .send_message()
            .queue_url(queue)
            .message_body(body)
            .message_attributes(REPLAYS_ATTRIBUTE, count.build().map_err(Failure::internal)?)
            .delay_seconds(FIRST_DELAY.saturating_mul(4_i32.saturating_pow(replays)).min(LONGEST_DELAY))
            .send()
            .await
            .map_err(AwsError::from)
            .map_err(Failure::unavailable)?;
        tracing::warn!(queue, replays = replays + 1, "a dead letter went back to its queue");
        Ok(())
    }
}

/// Returns how often a message has already gone back to its queue.
pub(crate) fn replays(message: &Message) -> u32 {
    let attribute = message.message_attributes().and_then(|attributes| attributes.get(REPLAYS_ATTRIBUTE));
    attribute.and_then(|count| count.string_value()?.parse().ok()).unwrap_or_default()
}

/// Returns a message as an event source mapping passes it to a function.
pub(crate) fn record(message: &Message) -> Value {
    let attributes = message.attributes().into_iter().flatten();
    let attributes: Value = attributes.map(|(name, value)| (name.as_str().to_owned(), json!(value))).collect();
    json!({
        "messageId": message.message_id(), "receiptHandle": message.receipt_handle(), "body": message.body(),
        "attributes": attributes, "messageAttributes": {}, "eventSource": "aws:sqs"
    })
}
