use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use chrono::TimeDelta;
use domain::Instant;
use domain::charging::session::UserCheck;
use domain::event::Envelope;
use lambda_kit::{AwsError, Failure, Redelivery};
use serde_json::json;

/// The queue of the events and of the checks that end sessions.
#[derive(Clone, Debug)]
pub struct Inbox {
    client: Client,
    url: String,
    redelivery: Redelivery,
}

impl Inbox {
    /// A start that read the tables has been written or has failed after this time. The time is longer than the timeout
    /// of the function, which the template sets.
    pub const LONGEST_START: TimeDelta = TimeDelta::seconds(20);

    /// Creates the queue at `url`.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: String) -> Self {
        Self { client: Client::new(sdk), redelivery: Redelivery::new(sdk, url.clone()), url }
    }

    /// Returns the schedule for delivering failed messages again.
    #[must_use]
    pub fn redelivery(&self) -> &Redelivery {
        &self.redelivery
    }

    /// Sends an event to the queue once more. The message arrives [`Self::LONGEST_START`] after `happened`, when every
    /// start that read the user before `happened` has been written or has failed. After that time, sends nothing.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the queue does not accept the message.
    pub async fn look_again(&self, envelope: &Envelope, happened: Instant, now: Instant) -> Result<(), Failure> {
        let left = happened + Self::LONGEST_START - now;
        if left <= TimeDelta::zero() {
            return Ok(());
        }
        let body = json!({ "detail-type": envelope.event.event_type(), "detail": envelope }).to_string();
        // The clock of the function that wrote the event may be ahead.
        self.send(body, left.min(Self::LONGEST_START)).await
    }

    /// Sends a check to the queue. The message arrives when the start of the session has been written or has failed.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the queue does not accept the message.
    pub async fn check_later(&self, check: &UserCheck) -> Result<(), Failure> {
        self.send(check.message(), Self::LONGEST_START).await
    }

    async fn send(&self, body: String, delay: TimeDelta) -> Result<(), Failure> {
        // SQS takes whole seconds, so round up.
        let seconds = delay.num_seconds() + 1;
        let message = self.client.send_message().queue_url(&self.url).message_body(body);
        let sent = message.delay_seconds(i32::try_from(seconds).unwrap_or(i32::MAX)).send().await;
        sent.map_err(AwsError::from).map_err(Failure::unavailable)?;
        Ok(())
    }
}
