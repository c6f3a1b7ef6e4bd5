//! The items that the stores write have the key attributes of every index.

use domain::billing::{Invoice, Wallet};
use domain::charging::station::StationStatus;
use domain::id::{SwapStationId, UserId};
use domain::notifications::{Level, LogStatus};
use domain::telemetry::{Message, Reading, SwapStationStatus};
use serde_json::json;
use testkit::{EmbeddedDynamoDb, ended, machine_client, registered, tables};

use crate::common::{context, insert_log, insert_station, log, now, poi, put_session, station};

/// Writes an item for each index.
async fn world() -> EmbeddedDynamoDb {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let at = (52.5, 13.4);
    let stations = dynamodb.charging().stations;
    insert_station(&stations, &station("s-1", at, StationStatus::Active), &[]).await.unwrap();
    put_session(&dynamodb.charging(), "x-1", "u-1", "s-1", 0).await;
    for user in [registered("u-1", now()), machine_client("u-2", now())] {
        dynamodb.users().insert(&user, None, &context()).await.unwrap();
    }
    insert_log(&dynamodb.error_logs(), &log(1, Level::Error, "a", LogStatus::Open)).await.unwrap();
    dynamodb.pois().put(&poi(1, at, None, 1)).await.unwrap();
    let invoice = Invoice::for_session(&ended("x-1", "u-1", 1000), now()).unwrap().unwrap();
    let wallet = Wallet::open(UserId::new("u-1").unwrap(), "EUR".parse().unwrap(), now());
    dynamodb.billing().issue(&invoice.issue(wallet, now()), &context()).await.unwrap();
    let reading = Reading {
        station_id: SwapStationId::new("swap-1").unwrap(),
        battery_available: 1,
        battery_charging: 1,
        temperature: 1.0,
        humidity: 1.0,
        status: SwapStationStatus::Operational,
        timestamp: now(),
    };
    dynamodb.telemetry().record(&Message::new(reading, &json!({})), now()).await.unwrap();
    dynamodb
}

#[tokio::test]
async fn items_have_the_key_attributes_of_every_index() {
    let dynamodb = world().await;
    for table in tables() {
        let items = dynamodb.items(&table.name).await;
        for index in &table.indexes {
            let keys: Vec<&String> = std::iter::once(&index.key.partition).chain(&index.key.sort).collect();
            let found = items.iter().any(|item| keys.iter().all(|name| item.contains_key(*name)));
            assert!(found, "no item of {} has {keys:?} of {}", table.name, index.name);
        }
    }
}
