//! `evoke bench telemetry`: measures both paths of `telemetry_handler` in this process, with the embedded DynamoDB and
//! S3 in other processes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use chrono::TimeDelta;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Context, Function, Trigger};
use serde_json::Value;
use store::{Archive, Capacity, Db, TelemetryStore};
use telemetry_handler::TelemetryHandler;
use testkit::{EmbeddedDynamoDb, RuntimeApi, no_redelivery, reading, sdk_config, sqs_event};

use super::{Server, peak_mb_of};

/// The bucket of the embedded S3.
pub const BUCKET: &str = "telemetry";
/// The number of messages in a batch, the same as in the template.
const BATCH: usize = 500;
/// The number of direct messages processed concurrently, each as by an execution environment of its own.
const CONCURRENCY: usize = 64;
/// The number of batches processed concurrently.
const CONCURRENT_BATCHES: usize = 4;
/// The binary of the function that `make build` produces.
const BINARY: &str = "target/lambda/telemetry_handler/bootstrap";
const NEVER: usize = usize::MAX;

struct World {
    dynamodb: Server,
    s3: Server,
}

struct Ingestion {
    handler: TelemetryHandler,
    archive: Archive,
    capacity: Capacity,
}

impl World {
    async fn start() -> Result<Self> {
        Ok(Self { dynamodb: Server::start().await?, s3: Server::start_as("embedded-s3").await? })
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::new(&sdk_config(&self.s3.endpoint))
    }

    /// Creates a handler with its own counters.
    fn ingestion(&self) -> Ingestion {
        let db = Db::new(EmbeddedDynamoDb::client_at(&self.dynamodb.endpoint));
        let capacity = db.capacity().clone();
        let archive = Archive::new(self.s3(), BUCKET);
        let states = TelemetryStore::new(db, "ev-telemetry");
        Ingestion { handler: TelemetryHandler::new(states, archive.clone(), no_redelivery(), NEVER), archive, capacity }
    }
}

/// Returns messages of `stations` stations in turn; the messages of a station are five seconds apart.
///
/// Each path has its own stations. Otherwise a later message on one path would make every message of the other path
/// late.
fn messages(path: &str, from: u32, count: u32, stations: u32, start: domain::Instant) -> Vec<Value> {
    (from..from + count)
        .map(|number| {
            let at = start + TimeDelta::seconds(i64::from(number / stations) * 5);
            reading(&format!("{path}-{:05}", number % stations), at, number % 17)
        })
        .collect()
}

pub async fn telemetry(messages_measured: u32, stations: u32) -> Result<()> {
    let world = World::start().await?;
    let start: domain::Instant = "2026-03-03T00:00:00Z".parse()?;
    let now = start + TimeDelta::days(30);
    let context = Context {
        now,
        deadline: now + TimeDelta::minutes(15),
        correlation_id: "bench".to_owned(),
        request_id: "bench".to_owned(),
    };
    // Not measured: only the first message of each station writes the index.
    for path in ["direct", "batch"] {
        let warm_up = messages(path, 0, stations, stations, start - TimeDelta::days(1));
        direct(&world.ingestion().handler, warm_up, &context).await?;
    }
    let (by_direct, by_batch) = (world.ingestion(), world.ingestion());
    let (mut direct_s, mut batch_s, mut bare_s) = (0.0, 0.0, 0.0);
    let rounds = 4;
    let (client, s3) = (EmbeddedDynamoDb::client_at(&world.dynamodb.endpoint), world.s3());
    for round in 0..rounds {
        let share = messages_measured / rounds;
        let sent = messages("direct", round * share, share, stations, start);
        let watch = Instant::now();
        direct(&by_direct.handler, sent, &context).await?;
        direct_s += watch.elapsed().as_secs_f64();
        let sent = messages("batch", round * share, share, stations, start);
        let watch = Instant::now();
        batched(&by_batch.handler, &sent, &context).await?;
        batch_s += watch.elapsed().as_secs_f64();
        let watch = Instant::now();
        let pairs =
            stream::iter(round * share..(round + 1) * share).map(|number| bare_pair(&client, &s3, number, stations));
        pairs.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        bare_s += watch.elapsed().as_secs_f64();
    }
    let total = f64::from(messages_measured / rounds * rounds);
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "path",
        "messages/s",
        "of bare pairs",
        "table write units",
        "index write units",
        "read units",
        "S3 puts per 1,000",
    ]);
    for (name, path, seconds) in [("direct", &by_direct, direct_s), ("batches of 500", &by_batch, batch_s)] {
        let units = path.capacity.units();
        #[allow(clippy::cast_precision_loss)]
        let puts = path.archive.requests().puts as f64;
        table.add_row([
            name.to_owned(),
            format!("{:.0}", total / seconds),
            format!("{:.0} %", 100.0 * bare_s / seconds),
            format!("{:.2}", units.table_write / total),
            format!("{:.2}", units.index_write / total),
            format!("{:.2}", units.read / total),
            format!("{:.0}", 1000.0 * puts / total),
        ]);
    }
    println!("{table}");
    println!(
        "{total} messages of {stations} stations on each path, alternating. Units are per message. A bare pair is one PutObject and\n\
                 one UpdateItem of the same size, run concurrently, {CONCURRENCY} pairs at a time ({:.0}/s).",
        total / bare_s
    );
    print_memory(&world, &messages("memory", 0, 500, stations, start)).await
}

async fn direct(handler: &TelemetryHandler, messages: Vec<Value>, context: &Context) -> Result<()> {
    let work = stream::iter(messages).map(|message| handler.trigger(Trigger::Iot(message), context.clone()));
    work.buffer_unordered(CONCURRENCY).try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

async fn batched(handler: &TelemetryHandler, messages: &[Value], context: &Context) -> Result<()> {
    // Each lane waits for its last batch, so that the messages of a station mostly stay in order.
    let lanes = (0..CONCURRENT_BATCHES).map(|lane| async move {
        for messages in messages.chunks(BATCH).skip(lane).step_by(CONCURRENT_BATCHES) {
            let batch = serde_json::from_value(batch(messages))?;
            let report = handler.trigger(Trigger::Sqs(batch), context.clone()).await?;
            let failures = report["batchItemFailures"].as_array();
            anyhow::ensure!(failures.is_some_and(Vec::is_empty), "messages failed: {report}");
        }
        Ok(())
    });
    try_join_all(lanes).await?;
    Ok(())
}

fn batch(messages: &[Value]) -> Value {
    sqs_event(&messages.iter().map(Value::to_string).collect::<Vec<_>>())
}

async fn bare_pair(
    client: &aws_sdk_dynamodb::Client,
    s3: &aws_sdk_s3::Client,
    number: u32,
    stations: u32,
) -> Result<()> {
    let body = "x".repeat(180).into_bytes();
    let put = s3.put_object().bucket(BUCKET).key(format!("bare/{number}")).body(ByteStream::from(body)).send();
    let update = client
        .update_item()
        .table_name("ev-telemetry")
        .key("station_id", AttributeValue::S(format!("bare-{}", number % stations)))
        .update_expression("SET #v = :v")
        .expression_attribute_names("#v", "v")
        .expression_attribute_values(":v", AttributeValue::S("x".repeat(180)))
        .send();
    let (put, update) = futures::future::join(put, update).await;
    put?;
    update?;
    Ok(())
}

/// Prints the peak memory of the function's process after one message and after one batch of 500.
async fn print_memory(world: &World, messages: &[Value]) -> Result<()> {
    let binary = Path::new(BINARY);
    if !binary.exists() {
        println!("memory of a batch: not measured, {BINARY} is not built (make build)");
        return Ok(());
    }
    let runtime = RuntimeApi::start().await;
    let environment = [
        ("TELEMETRY_TABLE", "ev-telemetry"),
        ("TELEMETRY_BUCKET", BUCKET),
        ("QUEUE_URL", testkit::NOWHERE),
        ("REJECTED_MESSAGES_LIMIT", "10"),
        ("LIVE_PUBLISHER_FUNCTION", "none"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &world.dynamodb.endpoint),
        ("AWS_ENDPOINT_URL_S3", &world.s3.endpoint),
    ];
    let mut child = runtime.spawn(binary, &environment);
    let peaks = peaks(&runtime, child.id(), messages).await;
    child.kill().and(child.wait())?;
    let (one, many) = peaks?;
    let count = messages.len();
    println!("peak memory of the function: {one:.1} MB after one message, {many:.1} MB after a batch of {count}");
    Ok(())
}

/// Returns the peak memory of a process, MB, after one message and after all of them in a batch.
async fn peaks(runtime: &RuntimeApi, process: u32, messages: &[Value]) -> Result<(f64, f64)> {
    let mut answered = 0;
    let mut invoke = async |payload: Value| -> Result<f64> {
        runtime.push(payload.to_string());
        let answer = runtime.answer(answered).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        anyhow::ensure!(answer["batchItemFailures"].as_array().is_none_or(Vec::is_empty), "messages failed: {answer}");
        answered += 1;
        peak_mb_of(process)
    };
    let one = invoke(messages.first().context("a message")?.clone()).await?;
    let many = invoke(batch(messages)).await?;
    Ok((one, many))
}
