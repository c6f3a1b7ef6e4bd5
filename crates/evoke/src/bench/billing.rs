//! `evoke bench billing` and `evoke bench invoice`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use billing::Billing;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::event::{Event, seal};
use domain::id::{InvoiceId, SessionId};
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Context, Redelivery};
use serde_json::{Value, json};
use store::{BillingStore, Db, UserStore};

use super::{Server, invocation_at, peak_mb, percentiles};
use crate::stack::Stack;

/// The number of invoices issued concurrently, as in a batch of the queue.
const CONCURRENCY: usize = 10;
/// The number of items in the transaction that issues a paid invoice with one line.
const ITEMS: usize = 4;
/// The maximum time until an invoice exists on the deployed stack.
const PATIENCE: Duration = Duration::from_mins(1);

/// Issues invoices in this process, each paid from its user's wallet, and alternates with bare transactions of as many
/// items.
pub async fn billing(invoices: u32) -> Result<()> {
    let mut server = Server::start().await?;
    let db = Db::new(server.client());
    let billing = function(db.clone())?;
    let context = invocation_at("2026-03-03T10:30:00Z".parse()?);
    fill_wallets(&billing, invoices, &context).await?;
    let before = db.capacity().units();
    let (mut issued, mut bare) = (0.0, 0.0);
    let rounds = 5;
    let client = server.client();
    for round in 0..rounds {
        let numbers: Vec<u32> = (round * invoices / rounds..(round + 1) * invoices / rounds).collect();
        let end = |number: &u32| testkit::ended(&format!("s-{number}"), &format!("u-{number}"), 30_000);
        let ends: Vec<_> = numbers.iter().map(end).collect();
        let watch = Instant::now();
        let work = stream::iter(ends).map(|end| {
            let (billing, context) = (&billing, &context);
            async move {
                let item = format!("SESSION#{}", end.session_id);
                let envelope = seal(&item, 1, end.ended_at, "bench", [Event::SessionEnded(Box::new(end))]).remove(0);
                billing.bill(&envelope, context).await
            }
        });
        work.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        issued += watch.elapsed().as_secs_f64();
        let watch = Instant::now();
        let work = stream::iter(numbers).map(|number| bare_transaction(&client, number));
        work.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        bare += watch.elapsed().as_secs_f64();
    }
    let units = db.capacity().units();
    let per = |after: f64, before: f64| format!("{:.2}", (after - before) / f64::from(invoices));
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "invoices",
        "invoices/s",
        "bare transactions/s",
        "ratio",
        "read units",
        "table write units",
        "index write units",
        "peak MB",
    ]);
    table.add_row([
        invoices.to_string(),
        format!("{:.0}", f64::from(invoices) / issued),
        format!("{:.0}", f64::from(invoices) / bare),
        format!("{:.0} %", 100.0 * bare / issued),
        per(units.read, before.read),
        per(units.table_write, before.table_write),
        per(units.index_write, before.index_write),
        format!("{:.0}", peak_mb()?),
    ]);
    println!("{table}");
    println!(
        "Units are per invoice with one line that is paid at once. Bare transactions put {ITEMS} small items. Both alternate, {CONCURRENCY} at a time."
    );
    server.child.kill().await?;
    Ok(())
}

/// Creates the function in this process.
pub(super) fn function(db: Db) -> Result<Billing> {
    let sqs = aws_sdk_sqs::Client::new(&testkit::sdk_config(testkit::NOWHERE));
    let currency = "EUR".parse().map_err(anyhow::Error::msg)?;
    let (store, users) = (BillingStore::new(db.clone(), "ev-billing"), UserStore::new(db, "ev-users"));
    Ok(Billing::new(store, users, currency, Redelivery::with_client(sqs, String::new())))
}

/// Puts money into the wallets of the users `u-0`, `u-1` and so on, enough for the invoice of one session each.
pub(super) async fn fill_wallets(billing: &Billing, users: u32, context: &Context) -> Result<()> {
    let users = stream::iter(0..users).map(|number| async move {
        let request = lambda_kit::Request {
            action: "topUpWallet".to_owned(),
            arguments: json!({ "userId": format!("u-{number}"), "amount": "100.00", "currency": "EUR", "idempotencyKey": "k" }),
            actor: Some(domain::actor::Actor::system()),
            context: context.clone(),
        };
        lambda_kit::Function::handle(billing, request).await.map(|_| ())
    });
    Ok(users.buffer_unordered(CONCURRENCY).try_collect::<()>().await?)
}

async fn bare_transaction(client: &Client, number: u32) -> Result<()> {
    let put = |item: usize| -> Result<TransactWriteItem> {
        let put = Put::builder()
            .table_name("ev-billing")
            .item("PK", AttributeValue::S(format!("BARE#{number}")))
            .item("SK", AttributeValue::S(item.to_string()))
            .condition_expression("attribute_not_exists(PK)");
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    };
    let items = (0..ITEMS).map(put).collect::<Result<_>>()?;
    client.transact_write_items().set_transact_items(Some(items)).send().await?;
    Ok(())
}

/// Opens a station with one port on the deployed stack, and returns its id.
pub(super) async fn open_station(stack: &Stack) -> Result<String> {
    let station = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let admin = json!({ "userId": "bench", "role": "ADMIN" });
    let create = json!({
        "action": "createStation", "actor": admin, "stationId": station, "name": "Bench", "address": "Bench",
        "latitude": 52.5, "longitude": 13.4, "powerKw": 100, "pricePerKwh": "0.49", "currency": "EUR",
        "ports": [{ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 100 }]
    });
    stack.invoke("station_service", &create).await?;
    let commission = json!({ "action": "transitionStation", "actor": admin, "stationId": station, "to": "ACTIVE" });
    stack.invoke("station_service", &commission).await?;
    Ok(station)
}

/// Stops sessions on the deployed stack, one after the other, and waits for the invoice of each.
pub async fn invoice_latency(stack: &Stack, sessions: u32) -> Result<()> {
    let station = open_station(stack).await?;
    let progress = indicatif::ProgressBar::new(sessions.into());
    let mut latencies = Vec::new();
    for _ in 0..sessions.max(1) {
        latencies.push(from_stop_to_invoice(stack, &station).await?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let [p50, p99] = percentiles(latencies, [50, 99]);
    println!("from the answer to stopSession to the invoice, {sessions} sessions: p50 {p50:.0} ms, p99 {p99:.0} ms");
    Ok(())
}

async fn from_stop_to_invoice(stack: &Stack, station: &str) -> Result<f64> {
    let user = json!({ "userId": "bench", "role": "USER" });
    let start = json!({
        "action": "startSession", "actor": user, "stationId": station, "portId": "port-1",
        "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
    });
    let started = stack.invoke("session_service", &start).await?;
    let session = started["sessionId"].as_str().context("no session was started")?;
    let stop = json!({ "action": "stopSession", "actor": user, "sessionId": session });
    stack.invoke("session_service", &stop).await?;
    let watch = Instant::now();
    let get: Value =
        json!({ "action": "getInvoice", "actor": user, "invoiceId": InvoiceId::of(&SessionId::new(session)?) });
    while stack.invoke("billing", &get).await.is_err() {
        anyhow::ensure!(watch.elapsed() < PATIENCE, "session {session} has no invoice after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(watch.elapsed().as_secs_f64() * 1000.0)
}
