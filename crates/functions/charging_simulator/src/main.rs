//! Entry point of the `charging_simulator` Lambda.

use charging_simulator::{ChargingSimulator, ShardQueue};
use lambda_kit::{BootError, Env};
use store::ChargingStore;

/// The maximum number of sessions that one invocation advances itself. A larger fleet is sent to the queue.
const INLINE_SESSIONS: usize = 2_000;
/// The number of shards into which a larger fleet is divided.
const SHARDS: u32 = 16;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let charging = ChargingStore::new(
            store::Client::new(sdk),
            env.required("STATIONS_TABLE")?,
            env.required("SESSIONS_TABLE")?,
        );
        let shards = env.parsed("SIMULATOR_SHARDS", SHARDS)?;
        let queue = env.optional("SHARD_QUEUE_URL");
        let queue = queue.map(|url| ShardQueue::new(aws_sdk_sqs::Client::new(sdk), url, shards));
        charging.sessions.table().warm().await;
        Ok(ChargingSimulator::new(charging, queue, env.parsed("SIMULATOR_INLINE_SESSIONS", INLINE_SESSIONS)?))
    })
    .await
}
