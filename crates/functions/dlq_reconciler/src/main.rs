//! Entry point of the `dlq_reconciler` Lambda.

use dlq_reconciler::{Config, DlqReconciler, Quarantine};
use lambda_kit::BootError;
use store::{BillingStore, Db};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let billing = BillingStore::new(Db::new(store::Client::new(sdk)), config.billing_table);
        let quarantine = Quarantine::new(aws_sdk_s3::Client::new(sdk), config.quarantine_bucket);
        Ok(DlqReconciler::new(billing, quarantine, sdk, config.queues, config.max_replays))
    })
    .await
}
