//! Entry point of the `notification_service` Lambda.

use chrono::TimeDelta;
use lambda_kit::{BootError, Env, Redelivery};
use notification_service::{NotificationService, Topics};
use store::{Db, ErrorLogStore};

/// The retention of log entries, days.
const RETENTION_DAYS: u32 = 90;

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |env: &Env, sdk| {
        let db = Db::new(store::Client::new(sdk));
        let days: u32 = env.parsed("ERROR_LOG_RETENTION_DAYS", RETENTION_DAYS)?;
        let logs = ErrorLogStore::new(db, env.required("ERROR_LOGS_TABLE")?, TimeDelta::days(days.into()));
        let topics = Topics::new(
            aws_sdk_sns::Client::new(sdk),
            env.required("OPERATORS_TOPIC_ARN")?,
            env.required("USERS_TOPIC_ARN")?,
        );
        logs.table().warm().await;
        let redelivery = Redelivery::new(sdk, env.required("QUEUE_URL")?);
        Ok(NotificationService::new(logs, topics, redelivery))
    })
    .await
}
