//! A million active sessions: how many of them an invocation reads and holds in memory, counted at the wire.
//!
//! A server that speaks `DynamoDB`'s protocol generates the index, because filling a table with a million items takes
//! longer than all other tests here together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use charging_simulator::{ChargingSimulator, ShardQueue};
use chrono::TimeDelta;
use domain::id::StationId;
use lambda_kit::Door;
use serde_json::{Map, Value, json};
use store::ChargingStore;
use testkit::{FakeAws, invoke, sdk_config};

use crate::common::{World, door};
use crate::live::{publisher, told};

const SESSIONS: usize = 1_000_000;
const STATIONS: usize = 250_000;
/// The number of keys on a page of 1 MB of `DynamoDB`, at about 170 bytes each.
const PAGE: usize = 6_000;
/// The maximum number of active sessions that are advanced inline.
const INLINE: usize = 2_000;

#[derive(Default)]
struct Served {
    /// The number of queries of the active index.
    queries: AtomicUsize,
    /// The number of keys on their pages.
    keys: AtomicUsize,
    /// The numbers of sessions that were read and not written yet: now, and at most.
    held: AtomicUsize,
    most_held: AtomicUsize,
    written: AtomicUsize,
}

impl Served {
    fn get(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }
}

/// Returns the keys of the active index, `stationId#sessionId`, in order and by shard.
fn index() -> Vec<Vec<String>> {
    let mut shards = vec![Vec::new(); store::keys::SHARDS as usize];
    for number in 0..STATIONS {
        let station = StationId::new(format!("station-{number:06}")).unwrap();
        let shard = &mut shards[station.shard(store::keys::SHARDS) as usize];
        shard.extend((0..SESSIONS / STATIONS).map(|session| format!("{station}#session-{number:06}-{session}")));
    }
    shards
}

/// Starts a fake `DynamoDB` with that index. Behind each key is the session `like` with its own id.
async fn dynamodb(index: Arc<Vec<Vec<String>>>, like: Value, served: Arc<Served>) -> FakeAws {
    FakeAws::start(move |call, _| {
        let request: Value = serde_json::from_str(&call.body).unwrap();
        let answer = match call.target.as_str() {
            "DynamoDB_20120810.Query" => query(&index, &request, &served),
            "DynamoDB_20120810.BatchGetItem" => batch_get(&request, &like, &served),
            "DynamoDB_20120810.UpdateItem" => {
                served.held.fetch_sub(1, Ordering::SeqCst);
                served.written.fetch_add(1, Ordering::SeqCst);
                json!({})
            }
            other => panic!("{other}"),
        };
        (200, answer.to_string())
    })
    .await
}

fn query(index: &[Vec<String>], request: &Value, served: &Served) -> Value {
    let partition = request["ExpressionAttributeValues"][":p"]["S"].as_str().unwrap();
    let shard = &index[partition.strip_prefix("ACTIVE#").unwrap().parse::<usize>().unwrap()];
    let after = request["ExclusiveStartKey"]["activeKey"]["S"].as_str();
    let first = after.map_or(0, |after| shard.partition_point(|key| key.as_str() <= after));
    let limit = request["Limit"].as_u64().map_or(PAGE, |limit| (limit as usize).min(PAGE));
    let page = &shard[first..shard.len().min(first + limit)];
    served.queries.fetch_add(1, Ordering::SeqCst);
    served.keys.fetch_add(page.len(), Ordering::SeqCst);
    let key = |key: &String| {
        json!({
            "PK": { "S": format!("SESSION#{}", key.split_once('#').unwrap().1) }, "SK": { "S": "METADATA" },
            "activeShard": { "S": partition }, "activeKey": { "S": key }
        })
    };
    let items: Vec<Value> = page.iter().map(key).collect();
    let mut answer = json!({ "Count": items.len(), "Items": items });
    if first + page.len() < shard.len() {
        answer["LastEvaluatedKey"] = key(page.last().unwrap());
    }
    answer
}

fn batch_get(request: &Value, like: &Value, served: &Served) -> Value {
    let keys = request["RequestItems"]["ev-sessions"]["Keys"].as_array().unwrap();
    let held = served.held.fetch_add(keys.len(), Ordering::SeqCst) + keys.len();
    served.most_held.fetch_max(held, Ordering::SeqCst);
    let item = |key: &Value| {
        let mut item = like.clone();
        let pk = key["PK"]["S"].as_str().unwrap();
        item["PK"]["S"] = pk.into();
        item["stationId"]["S"] = format!("station-{}", pk.split('-').nth(1).unwrap()).into();
        item
    };
    json!({ "Responses": { "ev-sessions": keys.iter().map(item).collect::<Vec<_>>() } })
}

/// Returns a session of the real store, as JSON on the wire.
async fn session(world: &World) -> Value {
    world.station("station-1", 1).await;
    let items = world.dynamodb.items("ev-sessions").await;
    let item = items.into_iter().find(|item| item["SK"].as_s().unwrap() == "METADATA").unwrap();
    let attribute = |value: AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        other => panic!("{other:?}"),
    };
    let item: HashMap<String, AttributeValue> = item;
    item.into_iter().map(|(name, value)| (name, attribute(value))).collect::<Map<_, _>>().into()
}

fn simulator(dynamodb: &FakeAws, queue: Option<&FakeAws>, lambda: &FakeAws) -> Door<ChargingSimulator> {
    let client = store::Client::new(&sdk_config(&dynamodb.endpoint()));
    let charging = ChargingStore::new(client, "ev-stations", "ev-sessions");
    let queue = queue.map(|sqs| {
        let client = aws_sdk_sqs::Client::new(&sdk_config(&sqs.endpoint()));
        ShardQueue::new(client, format!("{}/queue", sqs.endpoint()), 16)
    });
    door(ChargingSimulator::new(charging, queue, INLINE).telling(Some(publisher(&lambda.endpoint()))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_sessions_are_divided_and_advanced_a_few_at_a_time() {
    let world = World::new().await;
    let (like, at) = (session(&world).await, world.started().await + TimeDelta::minutes(1));
    let index = Arc::new(index());
    assert_eq!(index.iter().map(Vec::len).sum::<usize>(), SESSIONS);

    // The invocation that divides the fleet reads little more than is needed to see that it is too large.
    let served = Arc::new(Served::default());
    let dynamodb_ = dynamodb(index.clone(), like.clone(), served.clone()).await;
    let sqs = FakeAws::start(|_, _| (200, json!({ "Successful": [], "Failed": [] }).to_string())).await;
    let lambda = FakeAws::start(|_, _| (202, String::new())).await;
    let answer = invoke(&simulator(&dynamodb_, Some(&sqs), &lambda), json!({ "tickAt": at })).await.unwrap();
    assert_eq!(answer["dispatchedShards"], 16, "{answer}");
    let (queries, keys) = (Served::get(&served.queries), Served::get(&served.keys));
    println!("dispatcher at {SESSIONS} sessions: {queries} queries, {keys} keys");
    // A page of each of the 16 shards holds twice an even share of the inline maximum. Eight pages are too many, and by
    // then each of the other shards may have another query in progress.
    assert!(queries <= 16 + 8 && keys <= queries * 2 * (INLINE / 16 + 1), "{queries} queries read {keys} keys");
    assert_eq!((sqs.calls().len(), lambda.calls().len()), (2, 0));

    // A worker for one of 128 shards reads the keys of its shard of the index, and holds few sessions at any time.
    let served = Arc::new(Served::default());
    let dynamodb_ = dynamodb(index.clone(), like, served.clone()).await;
    let part = (0..STATIONS).filter(|number| StationId::new(format!("station-{number:06}")).unwrap().shard(128) == 5);
    let stations = part.count();
    let expected = stations * (SESSIONS / STATIONS);
    let work = json!({ "tickAt": at, "shard": 5, "shards": 128 });
    let answer = invoke(&simulator(&dynamodb_, None, &lambda), work).await.unwrap();
    assert_eq!((&answer["sessions"], &answer["skipped"]), (&json!(expected), &json!(0)));
    let (queries, keys) = (Served::get(&served.queries), Served::get(&served.keys));
    let (written, held) = (Served::get(&served.written), Served::get(&served.most_held));
    println!("worker 5 of 128: {queries} queries, {keys} keys, {written} sessions written, at most {held} held");
    assert_eq!((keys, written), (index[5].len(), expected), "one shard of the index, each session once");
    // Nine batches of a hundred (one is being processed), and 64 stations of four sessions.
    assert!(held <= 900 + 64 * 4, "{held} sessions held");

    // Subscribers are told of each station once, by few invocations. An asynchronous one takes 256 KB.
    assert!(lambda.calls().iter().all(|call| call.body.len() <= 256 * 1024));
    let told = told(&lambda);
    println!("subscribers are told of {stations} stations by {} invocations", told.len());
    assert!((2..=10).contains(&told.len()), "{} invocations", told.len());
    let updates: Vec<&Value> = told.iter().flatten().collect();
    let of: BTreeSet<&str> = updates.iter().map(|update| update["stationId"].as_str().unwrap()).collect();
    assert_eq!((updates.len(), of.len()), (stations, stations));
    assert_eq!(updates.iter().map(|update| update["sessions"].as_array().unwrap().len()).sum::<usize>(), expected);
}
