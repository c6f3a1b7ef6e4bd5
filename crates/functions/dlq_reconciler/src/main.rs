//! Entry point of the `dlq_reconciler` Lambda.

use dlq_reconciler::{DeadLetterQueues, DlqReconciler, Quarantine};
use lambda_kit::{BootError, ConfigError, Env};
use store::{BillingStore, Db};

/// The maximum number of times that a message goes back to its queue.
const MAX_REPLAYS: u32 = 3;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let billing = BillingStore::new(Db::new(store::Client::new(sdk)), env.required("BILLING_TABLE")?);
        let quarantine = Quarantine::new(aws_sdk_s3::Client::new(sdk), env.required("QUARANTINE_BUCKET")?);
        let queues = DeadLetterQueues::parse(&env.required("DEAD_LETTER_QUEUES")?)
            .map_err(|reason| ConfigError::Invalid { name: "DEAD_LETTER_QUEUES", reason })?;
        let max_replays = env.parsed("MAX_REPLAYS", MAX_REPLAYS)?;
        Ok(DlqReconciler::new(billing, quarantine, aws_sdk_sqs::Client::new(sdk), queues, max_replays))
    })
    .await
}
