use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::Instant;
use lambda_kit::{Failure, Redelivery};

use crate::Tick;

/// `SendMessageBatch`'s limit.
const BATCH: usize = 10;

/// The simulator's own queue: one message per shard advances a large fleet by as many Lambdas as there are shards.
#[derive(Clone, Debug)]
pub struct ShardQueue {
    client: Client,
    url: String,
    redelivery: Redelivery,
}

impl ShardQueue {
    /// The queue at `url`.
    #[must_use]
    pub fn new(client: Client, url: String) -> Self {
        Self { redelivery: Redelivery::with_client(client.clone(), url.clone()), client, url }
    }

    /// How its failed messages are delivered again.
    #[must_use]
    pub fn redelivery(&self) -> &Redelivery {
        &self.redelivery
    }

    /// Hands a tick on, one message per shard.
    ///
    /// # Errors
    /// Unavailable when a message was not taken. Those that were are harmless: the same tick again changes nothing.
    pub async fn hand_on(&self, tick_at: Instant, shards: u32) -> Result<(), Failure> {
        let shards: Vec<u32> = (0..shards).collect();
        for batch in shards.chunks(BATCH) {
            let entries: Result<Vec<_>, Failure> = batch.iter().map(|shard| entry(tick_at, *shard)).collect();
            let sent = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries?)).send().await;
            let sent = sent.map_err(|error| Failure::unavailable(aws_sdk_sqs::error::DisplayErrorContext(error)))?;
            if let Some(refused) = sent.failed().first() {
                return Err(Failure::unavailable(format!("shard {} was not queued: {}", refused.id, refused.code)));
            }
        }
        Ok(())
    }
}

fn entry(tick_at: Instant, shard: u32) -> Result<SendMessageBatchRequestEntry, Failure> {
    let tick = Tick { tick_at: Some(tick_at), station_ids: None, shard: Some(shard) };
    let body = serde_json::to_string(&tick).map_err(Failure::internal)?;
    SendMessageBatchRequestEntry::builder().id(shard.to_string()).message_body(body).build().map_err(Failure::internal)
}
