//! Entry point of the `notification_service` Lambda.

use lambda_kit::{BootError, Redelivery};
use notification_service::{Config, NotificationService, Topics};
use store::{Db, ErrorLogStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let logs = ErrorLogStore::new(Db::new(store::Client::new(sdk)), config.error_logs_table, config.retention);
        let sns = aws_sdk_sns::Client::new(sdk);
        let topics = Topics::new(sns, config.operators_topic_arn, config.users_topic_arn);
        logs.table().warm().await;
        Ok(NotificationService::new(logs, topics, Redelivery::new(sdk, config.queue_url)))
    })
    .await
}
