use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::error_log::LogEntry;
use lambda_kit::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Audience {
    /// Those who run the network.
    Operators,
    /// Those who charge.
    Users,
}

/// The two SNS topics.
#[derive(Clone, Debug)]
pub struct Topics {
    client: Client,
    operators: String,
    users: String,
}

impl Topics {
    /// The topics with these ARNs.
    #[must_use]
    pub fn new(client: Client, operators: String, users: String) -> Self {
        Self { client, operators, users }
    }

    /// Publishes an entry to its audience. Subscriptions can filter by the attributes `level` and `service`.
    ///
    /// # Errors
    /// Unavailable when the topic does not take it.
    pub async fn publish(&self, audience: Audience, entry: &LogEntry) -> Result<(), Failure> {
        let topic = match audience {
            Audience::Operators => &self.operators,
            Audience::Users => &self.users,
        };
        let level = entry.level.name();
        self.client
            .publish()
            .topic_arn(topic)
            .subject(format!("Evoke {level}: {}", entry.service))
            .message(&entry.message)
            .message_attributes("level", attribute(level)?)
            .message_attributes("service", attribute(&entry.service)?)
            .message_attributes("logId", attribute(entry.id.as_str())?)
            .send()
            .await
            .map_err(|error| Failure::unavailable(aws_sdk_sns::error::DisplayErrorContext(error)))?;
        Ok(())
    }
}

fn attribute(value: &str) -> Result<MessageAttributeValue, Failure> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().map_err(Failure::internal)
}
