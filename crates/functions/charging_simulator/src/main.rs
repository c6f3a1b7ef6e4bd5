//! Entry point of the `charging_simulator` Lambda.

use charging_simulator::{ChargingSimulator, Config, ShardQueue};
use lambda_kit::{BootError, RemoteFunction};
use store::ChargingStore;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let charging = ChargingStore::new(store::Client::new(sdk), config.stations_table, config.sessions_table);
        // Without shards nothing reads the queue, so that nothing may be sent to it.
        let queue = (config.shards > 0)
            .then(|| ShardQueue::new(aws_sdk_sqs::Client::new(sdk), config.shard_queue_url, config.shards));
        charging.sessions.table().warm().await;
        let live = config.live_publisher.map(|function| RemoteFunction::new(sdk, function));
        Ok(ChargingSimulator::new(charging, queue, config.inline_sessions).telling(live))
    })
    .await
}
