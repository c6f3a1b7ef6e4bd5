//! Entry point of the `notification_service` Lambda.

use domain::billing::LowBalance;
use lambda_kit::{BootError, Redelivery};
use notification_service::{Config, Mails, NotificationService, Topics};
use store::{Db, ErrorLogStore, UserStore};

#[tokio::main]
async fn main() -> Result<(), BootError> {
    lambda_kit::run(async |config: Config, sdk| {
        let db = Db::new(store::Client::new(sdk));
        let logs = ErrorLogStore::new(db.clone(), config.error_logs_table, config.retention);
        let sns = aws_sdk_sns::Client::new(sdk);
        let topics = Topics::new(sns, config.operators_topic_arn, config.users_topic_arn);
        let low = LowBalance { below: config.wallet_low, currency: config.currency };
        let mails = config.mail_sender.map(|sender| {
            let users = UserStore::new(db, config.users_table);
            Mails::new(aws_sdk_sesv2::Client::new(sdk), sender, config.mail_configuration_set, users)
        });
        logs.table().warm().await;
        Ok(NotificationService::new(logs, topics, low, mails, Redelivery::new(sdk, config.queue_url)))
    })
    .await
}
