use std::collections::HashMap;

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::id::UserId;
use domain::notifications::LogEntry;
use lambda_kit::{AwsError, Failure};
use schemars::JsonSchema;
use serde::Deserialize;

/// The audience of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Audience {
    /// The operators of the network.
    Operators,
    /// The users who charge.
    Users,
}

/// The recipient of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The operators of the network.
    Operators,
    /// All users.
    AllUsers,
    /// One user.
    User(UserId),
}

/// The two SNS topics, for operators and for users.
#[derive(Clone, Debug)]
pub struct Topics {
    client: Client,
    operators: String,
    users: String,
}

impl Topics {
    /// Creates the topics from their ARNs.
    #[must_use]
    pub fn new(client: Client, operators: String, users: String) -> Self {
        Self { client, operators, users }
    }

    /// Publishes a log entry to its recipient.
    ///
    /// Subscriptions can filter by the attributes `kind`, `level`, `service` and `audience`, and by `userId` if the
    /// notification is for one user.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when SNS does not accept the message.
    pub async fn publish(&self, to: &Recipient, kind: &str, entry: &LogEntry) -> Result<(), Failure> {
        let (topic, audience, user) = match to {
            Recipient::Operators => (&self.operators, "OPERATORS", None),
            Recipient::AllUsers => (&self.users, "USERS", None),
            Recipient::User(user) => (&self.users, "USERS", Some(user)),
        };
        let user = user.map(|user| attribute(user.as_str())).transpose()?;
        let attributes = user.map(|user| HashMap::from([("userId".to_owned(), user)]));
        let level = entry.level.name();
        self.client
            .publish()
            .topic_arn(topic)
            .set_message_attributes(attributes)
            .message_attributes("audience", attribute(audience)?)
            .subject(format!("Evoke {level}: {}", entry.service))
            .message(&entry.message)
            .message_attributes("kind", attribute(kind)?)
            .message_attributes("level", attribute(level)?)
            .message_attributes("service", attribute(&entry.service)?)
            .message_attributes("logId", attribute(entry.id.as_str())?)
            .send()
            .await
            .map_err(AwsError::from)
            .map_err(Failure::unavailable)?;
        Ok(())
    }
}

fn attribute(value: &str) -> Result<MessageAttributeValue, Failure> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().map_err(Failure::internal)
}
