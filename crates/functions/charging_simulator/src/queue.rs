use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use backon::{BackoffBuilder, ExponentialBuilder};
use domain::Instant;
use lambda_kit::{AwsError, Failure, Redelivery};

use crate::Tick;

/// The maximum number of entries of `SendMessageBatch`.
const BATCH: usize = 10;

/// The queue of the simulator. A large fleet is divided among its messages, so that several Lambda invocations advance
/// it concurrently.
#[derive(Clone, Debug)]
pub struct ShardQueue {
    client: Client,
    url: String,
    shards: u32,
    redelivery: Redelivery,
}

impl ShardQueue {
    /// Creates the queue at `url`. A fleet is divided into `shards` messages.
    #[must_use]
    pub fn new(client: Client, url: String, shards: u32) -> Self {
        Self { redelivery: Redelivery::with_client(client.clone(), url.clone()), client, url, shards: shards.max(1) }
    }

    /// Returns the schedule for delivering failed messages again.
    #[must_use]
    pub fn redelivery(&self) -> &Redelivery {
        &self.redelivery
    }

    /// Sends a tick to the queue, one message for each shard, and returns the number of shards. Messages that the queue
    /// does not accept are sent again, at most four times.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the queue did not accept a message in the end, and
    /// [`Code::Internal`](lambda_kit::Code::Internal) when SQS reports that the message itself is wrong. The messages
    /// that were accepted do no harm: repeating the same tick changes nothing.
    pub async fn hand_on(&self, tick_at: Instant) -> Result<u32, Failure> {
        let shards: Vec<u32> = (0..self.shards).collect();
        for batch in shards.chunks(BATCH) {
            self.send(tick_at, batch.to_vec()).await?;
        }
        Ok(self.shards)
    }

    /// Sends a batch, and sends refused messages again: at most five attempts, with growing, jittered pauses that start
    /// at 50 ms.
    async fn send(&self, tick_at: Instant, mut shards: Vec<u32>) -> Result<(), Failure> {
        let pauses = ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(50));
        let mut pauses = pauses.with_max_times(4).build();
        loop {
            let failure = match self.send_once(tick_at, &shards).await {
                Ok(None) => return Ok(()),
                Ok(Some((refused, failure))) => {
                    shards = refused;
                    failure
                }
                Err(failure) => failure,
            };
            let Some(pause) = pauses.next().filter(|_| failure.code() == lambda_kit::Code::Unavailable) else {
                return Err(failure);
            };
            tracing::warn!(%failure, cause = failure.cause(), "shards were not queued, and are sent again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a batch once. Returns the refused shards and the reason, if there are any.
    async fn send_once(&self, tick_at: Instant, shards: &[u32]) -> Result<Option<(Vec<u32>, Failure)>, Failure> {
        let entries: Result<Vec<_>, Failure> = shards.iter().map(|shard| self.entry(tick_at, *shard)).collect();
        let sent = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries?)).send().await;
        let sent = sent.map_err(AwsError::from).map_err(Failure::unavailable)?;
        let Some(first) = sent.failed().first() else { return Ok(None) };
        let message = format!("shard {} was not queued: {}", first.id, first.code);
        if let Some(ours) = sent.failed().iter().find(|refused| refused.sender_fault) {
            return Err(Failure::internal(format!("shard {} is no message: {}", ours.id, ours.code)));
        }
        let refused = sent.failed().iter().filter_map(|refused| refused.id.parse().ok()).collect();
        Ok(Some((refused, Failure::unavailable(message))))
    }

    fn entry(&self, tick_at: Instant, shard: u32) -> Result<SendMessageBatchRequestEntry, Failure> {
        let tick = Tick { tick_at: Some(tick_at), station_ids: None, shard: Some(shard), shards: Some(self.shards) };
        let body = serde_json::to_string(&tick).map_err(Failure::internal)?;
        let entry = SendMessageBatchRequestEntry::builder().id(shard.to_string()).message_body(body);
        entry.build().map_err(Failure::internal)
    }
}
