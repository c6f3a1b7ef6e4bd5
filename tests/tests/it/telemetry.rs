//! Battery-swap stations that report to the deployed stack over MQTT with mutual TLS: what they are allowed to do, how
//! faults are handled, and that no accepted message is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::telemetry::passed_on;
use e2e::{Stack, admin, eventually, now, text};
use fleet::{Broker, Device, Faults, Identity, LineEvent, Progress, Registry, Report, SOMEBODY_ELSE, Schedule};
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{lines, reading};

const DEVICES: usize = 20;

/// Devices that are removed with their certificates at the end of the test, even if it fails.
struct Fleet {
    stack: Stack,
    broker: Broker,
    registry: Registry,
    identities: Vec<Identity>,
}

impl Fleet {
    async fn provision(stack: &Stack, name: &str, count: usize) -> Self {
        let broker = stack.broker().await;
        let client = aws_sdk_iot::Client::new(&stack.config);
        let registry = Registry::new(client, broker.clone(), stack.output("ProvisioningTemplateName"));
        let run = uuid::Uuid::new_v4().simple().to_string();
        let ids: Vec<String> = (0..count).map(|n| format!("{name}-{}-{n:02}", &run[..8])).collect();
        let identities = registry.provision(&ids, || {}).await.unwrap();
        assert_eq!(identities.iter().map(|identity| identity.thing.clone()).collect::<Vec<_>>(), ids);
        Self { stack: stack.clone(), broker, registry, identities }
    }

    fn ids(&self) -> Vec<String> {
        self.identities.iter().map(|identity| identity.thing.clone()).collect()
    }

    /// Lets the devices report for a while. `faults` returns the faults of each device.
    async fn run(&self, seconds: u64, faults: impl Fn(usize) -> Faults) -> Vec<Report> {
        let schedule = Schedule {
            interval: Duration::from_millis(500),
            duration: Some(Duration::from_secs(seconds)),
            speed: 60.0,
        };
        let progress = Arc::new(Progress::default());
        let devices = (0_u64..).zip(&self.identities).map(|(seed, identity)| {
            let faults = faults(usize::try_from(seed).unwrap());
            Device::new(identity.clone(), self.broker.clone(), faults, seed).run(schedule, progress.clone(), now)
        });
        join_all(devices).await.into_iter().map(Result::unwrap).collect()
    }

    /// Returns the archived messages of these stations, each with the number of its copies.
    async fn archived(&self) -> BTreeMap<String, usize> {
        archived(&self.stack, &self.ids()).await
    }

    async fn remove(self) {
        self.registry.remove(&self.ids(), || {}).await.unwrap();
    }
}

async fn archived(stack: &Stack, stations: &[String]) -> BTreeMap<String, usize> {
    let mut messages = BTreeMap::new();
    for (key, bytes) in objects(stack, "telemetry/").await {
        for line in lines(&key, &bytes) {
            let message: Value = serde_json::from_str(&line).unwrap();
            if stations.iter().any(|station| message["station_id"] == station.as_str()) {
                *messages.entry(line).or_default() += 1;
            }
        }
    }
    messages
}

async fn objects(stack: &Stack, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let s3 = aws_sdk_s3::Client::new(&stack.config);
    let bucket = stack.output("TelemetryBucket");
    let keys = s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
    let pages: Vec<_> = keys.try_collect().await.unwrap();
    let mut objects = Vec::new();
    for object in pages.into_iter().flat_map(|page| page.contents.unwrap_or_default()) {
        let key = object.key.unwrap();
        let answer = s3.get_object().bucket(bucket).key(&key).send().await.unwrap();
        objects.push((key, answer.body.collect().await.unwrap().to_vec()));
    }
    objects
}

/// Formats a message as it is archived: with sorted fields and without spaces.
fn canonical(message: &str) -> String {
    serde_json::from_str::<Value>(message).unwrap().to_string()
}

/// Returns the rejected messages of these stations.
async fn rejected(stack: &Stack, stations: &[String]) -> Vec<Value> {
    let all = objects(stack, "rejected/").await.into_iter();
    let all = all.map(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).unwrap());
    all.filter(|message| stations.iter().any(|station| message["stationId"] == station.as_str())).collect()
}

/// Returns the bytes that a device published, of a rejected message.
fn published(rejected: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text(rejected, "payload")).unwrap()
}

/// Waits for a log entry about telemetry that contains all of these words.
async fn told(stack: &Stack, words: &[&str]) -> Value {
    eventually(&format!("a notification of {words:?}"), || async {
        let list = json!({ "action": "listLogs", "actor": admin(), "service": "evoke.telemetry", "limit": 100 });
        let logs = stack.invoke("NotificationService", list).await.unwrap();
        let mut logs = logs["items"].as_array().unwrap().iter();
        logs.find(|log| words.iter().all(|word| text(log, "message").contains(word))).cloned()
    })
    .await
}

async fn state(stack: &Stack, station: &str) -> Option<Value> {
    stack.invoke("TelemetryApi", json!({ "action": "getStation", "stationId": station })).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_devices_with_every_fault_lose_no_message() {
    let stack = Stack::open().await;
    let fleet = Fleet::provision(&stack, "fleet", DEVICES).await;
    // The last device sends a malformed message with every reading, which must be reported.
    let broken = fleet.ids()[DEVICES - 1].clone();
    let faults = |n: usize| match n {
        n if n == DEVICES - 1 => Faults { malformed: 1.0, ..Faults::default() },
        n if n < 4 => Faults { late: 0.2, duplicate: 0.2, malformed: 0.1, foreign: 0.1 },
        _ => Faults { late: 0.1, duplicate: 0.1, malformed: 0.05, foreign: 0.0 },
    };
    let reports = fleet.run(10, faults).await;
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    let made = [
        sum(|report| report.late),
        sum(|report| report.duplicates),
        sum(|report| report.malformed.len()),
        sum(|report| report.foreign),
    ];
    assert!(made.iter().all(|count| *count > 0), "late, duplicate, malformed, foreign: {made:?}");
    assert_eq!((sum(|report| report.foreign_taken), sum(|report| report.lost)), (0, 0), "taken, lost");
    let sent: BTreeSet<String> = reports.iter().flat_map(|report| &report.valid).map(|sent| canonical(sent)).collect();
    assert!(sent.len() > DEVICES * 10, "{}", sent.len());
    let archive = eventually("everything in the archive", || async {
        let archive = fleet.archived().await;
        sent.iter().all(|message| archive.contains_key(message)).then_some(archive)
    })
    .await;
    assert_eq!(archive.into_keys().collect::<BTreeSet<_>>(), sent, "the archive contains nothing else");
    let mut malformed: Vec<Vec<u8>> =
        reports.iter().flat_map(|report| &report.malformed).map(|sent| sent.clone().into_bytes()).collect();
    let kept = eventually("what is malformed among the rejected", || async {
        let rejected = rejected(&stack, &fleet.ids()).await;
        (rejected.len() == malformed.len()).then_some(rejected)
    })
    .await;
    let mut kept: Vec<Vec<u8>> = kept.iter().map(published).collect();
    kept.sort();
    malformed.sort();
    assert!(kept == malformed, "exactly what was published is kept");
    assert_eq!(state(&stack, SOMEBODY_ELSE).await, None, "no device can report in the name of another");
    for report in &reports {
        let latest = report.valid.iter().map(|sent| canonical(sent)).max_by_key(|sent| timestamp(sent)).unwrap();
        let latest: Value = serde_json::from_str(&latest).unwrap();
        let state = state(&stack, &report.station).await.unwrap();
        for (field, value) in latest.as_object().unwrap().iter().filter(|(field, _)| *field != "timestamp") {
            assert_eq!(state[field], *value, "{}", report.station);
        }
    }
    told(&stack, &[&broken, "rejected"]).await;
    history_is_what_was_sent(&stack, &reports[0]).await;
    fleet.remove().await;
}

fn timestamp(message: &str) -> DateTime<Utc> {
    let message: Value = serde_json::from_str(message).unwrap();
    text(&message, "timestamp").parse().unwrap()
}

/// Checks that the pages of a station's history contain exactly the messages that it sent.
async fn history_is_what_was_sent(stack: &Stack, report: &Report) {
    let days: BTreeSet<String> = report.valid.iter().map(|sent| timestamp(sent).date_naive().to_string()).collect();
    let mut history = BTreeSet::new();
    for day in days {
        let mut token = Value::Null;
        loop {
            let mut get = json!({ "action": "getHistory", "stationId": report.station, "date": day, "limit": 7 });
            if !token.is_null() {
                get["nextToken"] = token;
            }
            let page = stack.invoke("TelemetryApi", get).await.unwrap();
            for item in page["items"].as_array().unwrap() {
                assert!(history.insert(item.to_string()), "{item} twice");
            }
            token = page["nextToken"].clone();
            if token.is_null() {
                break;
            }
        }
    }
    assert_eq!(history, report.valid.iter().map(|sent| canonical(sent)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_notified_when_a_station_falls_silent_and_when_it_is_back() {
    let stack = Stack::open().await;
    let fleet = Fleet::provision(&stack, "silent", 1).await;
    let station = fleet.ids().remove(0);
    fleet.run(2, |_| Faults::default()).await;
    eventually("a state that is not stale", || async {
        state(&stack, &station).await.filter(|state| state["stale"] == json!(false))
    })
    .await;
    eventually("a state that is stale", || async {
        state(&stack, &station).await.filter(|state| state["stale"] == json!(true))
    })
    .await;
    stack.invoke("TelemetryMonitor", json!({})).await.unwrap();
    told(&stack, &[&station, "silent"]).await;
    fleet.run(1, |_| Faults::default()).await;
    eventually("the station to be back", || async {
        let back = state(&stack, &station).await.unwrap()["stale"] == json!(false);
        stack.invoke("TelemetryMonitor", json!({})).await.unwrap();
        back.then_some(())
    })
    .await;
    told(&stack, &[&station, "back"]).await;
    fleet.remove().await;
}

/// Publishes one message as a device. Returns whether the broker accepted it.
async fn publish(broker: &Broker, client_id: &str, identity: &Identity, topic: &str, message: &Value) -> bool {
    publish_bytes(broker, client_id, identity, topic, message.to_string().into_bytes()).await
}

async fn publish_bytes(broker: &Broker, client_id: &str, identity: &Identity, topic: &str, bytes: Vec<u8>) -> bool {
    let mut line = broker.dial(client_id, &identity.certificate, &identity.private_key).unwrap();
    // A broker may hang up before the message is sent.
    if line.publish(topic, bytes).await.is_err() {
        return false;
    }
    let outcome = async {
        loop {
            match line.next().await {
                LineEvent::Acknowledged(_) => return true,
                LineEvent::Broken(_) => return false,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), outcome).await.expect("an acknowledgement, or the end of the line")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_or_topic_gets_nothing_through() {
    let stack = Stack::open().await;
    let fleet = Fleet::provision(&stack, "cert", 3).await;
    let [one, two, gone] = &fleet.identities[..] else { panic!("three devices") };
    let topic = |station: &str| format!("ev/station/{station}/telemetry");
    let message = |station: &str| {
        let mut message = reading(station, now(), 1);
        message.as_object_mut().unwrap().remove("topic_station_id");
        message
    };
    let broker = &fleet.broker;
    assert!(publish(broker, &one.thing, one, &topic(&one.thing), &message(&one.thing)).await, "its own topic");
    eventually("its own message", || state(&stack, &one.thing)).await;
    let other = &two.thing;
    let cases = [
        ("another's topic", &one.thing, topic(other), message(other)),
        ("another's name with one's own certificate", other, topic(other), message(other)),
        ("a name that is nobody's", &"nobody".to_owned(), topic("nobody"), message("nobody")),
        ("a topic of the platform", &one.thing, "$aws/things/x/shadow/update".to_owned(), message(&one.thing)),
        ("a topic below its own", &one.thing, format!("{}/x", topic(&one.thing)), message(&one.thing)),
    ];
    for (what, client_id, topic, message) in cases {
        assert!(!publish(broker, client_id, one, &topic, &message).await, "{what}");
    }
    assert!(publish(broker, &gone.thing, gone, &topic(&gone.thing), &message(&gone.thing)).await);
    fleet.registry.deactivate(&gone.thing).await.unwrap();
    assert!(
        !publish(broker, &gone.thing, gone, &topic(&gone.thing), &message(&gone.thing)).await,
        "an inactive certificate"
    );
    // A message about another station on the device's own topic reaches the handler, which rejects it.
    let forged = message(other);
    assert!(publish(broker, &one.thing, one, &topic(&one.thing), &forged).await);
    eventually("the forged message among the rejected", || async {
        let rejected = rejected(&stack, std::slice::from_ref(&one.thing)).await;
        rejected.into_iter().find(|rejected| rejected["errors"][0]["field"] == json!("station_id"))
    })
    .await;
    assert_eq!(state(&stack, other).await, None);
    assert_eq!(archived(&stack, std::slice::from_ref(other)).await.len(), 0);
    fleet.remove().await;
}

/// Returns whether the stack was deployed with `TelemetryIngestion=batched`, so that `telemetry_handler` reads its queue.
async fn is_batched(stack: &Stack) -> bool {
    let iot = aws_sdk_iot::Client::new(&stack.config);
    let rule = iot.get_topic_rule().rule_name(stack.output("TelemetryRuleName")).send().await.unwrap().rule.unwrap();
    rule.actions().iter().any(|action| action.sqs().is_some())
}

/// What a device publishes is kept even if it is not JSON, or not even text.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_kept_exactly() {
    let stack = Stack::open().await;
    let fleet = Fleet::provision(&stack, "bytes", 1).await;
    let device = &fleet.identities[0];
    let topic = format!("ev/station/{}/telemetry", device.thing);
    let bytes: [&[u8]; 4] = [b"\xff\x00\xfe", b"{\"station_id\"", b"[1]", b"null"];
    let sent: BTreeSet<Vec<u8>> = bytes.map(<[u8]>::to_vec).into();
    for bytes in &sent {
        assert!(publish_bytes(&fleet.broker, &device.thing, device, &topic, bytes.clone()).await);
    }
    eventually("the bytes among the rejected", || async {
        let rejected = rejected(&stack, &fleet.ids()).await;
        (rejected.iter().map(published).collect::<BTreeSet<_>>() == sent).then_some(())
    })
    .await;
    fleet.remove().await;
}

/// The holder of a claim cannot take over a station that is registered.
#[tokio::test(flavor = "multi_thread")]
async fn a_registered_station_gets_no_second_certificate() {
    let stack = Stack::open().await;
    let fleet = Fleet::provision(&stack, "twice", 1).await;
    let refused = fleet.registry.provision(&fleet.ids(), || {}).await.unwrap_err();
    // The broker's answer to the registration, and no other failure such as a refused connection.
    assert!(format!("{refused:#}").contains(r#"refused: "ProvisioningFailed""#), "{refused:#}");
    let iot = aws_sdk_iot::Client::new(&stack.config);
    let principals = iot.list_thing_principals().thing_name(&fleet.identities[0].thing).send().await.unwrap();
    assert_eq!(principals.principals().len(), 1);
    fleet.remove().await;
}

/// The path for large fleets: the same IoT rule, but with the queue as its action, as the template writes it for
/// `TelemetryIngestion=batched`. The rule is only for the stations of this test.
#[tokio::test(flavor = "multi_thread")]
async fn batches_from_the_queue_are_archived_in_the_same_way() {
    let stack = Stack::open().await;
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let run = uuid::Uuid::new_v4().simple().to_string();
    let stations: Vec<String> = (0..10).map(|n| format!("batch-{}-{n}", &run[..8])).collect();
    let started = now();
    let messages: Vec<Value> = (0..200)
        .map(|n| {
            let at = started - chrono::TimeDelta::seconds(200) + chrono::TimeDelta::seconds(i64::from(n));
            reading(&stations[n as usize % 10], at, n)
        })
        .collect();
    let line = |message: &Value| {
        let mut message = message.clone();
        message.as_object_mut().unwrap().remove("topic_station_id");
        message.to_string()
    };
    // Each message twice, as the rule passes it on and as it did before; some malformed, some not JSON, in no order.
    let passed = |message: &Value| passed_on(text(message, "station_id"), line(message).as_bytes()).to_string();
    let mut bodies: Vec<String> = messages.iter().flat_map(|message| [message.to_string(), passed(message)]).collect();
    bodies.extend(stations.iter().map(|station| json!({ "topic_station_id": station, "humidity": 7 }).to_string()));
    bodies.extend(stations.iter().map(|station| passed_on(station, b"{").to_string()));
    bodies.sort_by_key(|body| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, body.as_bytes()));
    for chunk in bodies.chunks(10) {
        let entries = chunk.iter().enumerate().map(|(n, body)| {
            let entry = aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder().id(n.to_string());
            entry.message_body(body).build().unwrap()
        });
        let send = sqs.send_message_batch().queue_url(stack.output("TelemetryQueueUrl"));
        send.set_entries(Some(entries.collect())).send().await.unwrap();
    }
    let sent: BTreeSet<String> = messages.iter().map(line).collect();
    let archiving = async {
        eventually("the batches in the archive", || async {
            let archive: BTreeSet<String> = archived(&stack, &stations).await.into_keys().collect();
            (archive == sent).then_some(())
        })
        .await;
        eventually("what is malformed among the rejected", || async {
            (rejected(&stack, &stations).await.len() == 2 * stations.len()).then_some(())
        })
        .await;
    };
    if is_batched(&stack).await {
        archiving.await;
    } else {
        Box::pin(stack.while_read("TelemetryHandler", "Telemetry", archiving)).await;
    }
    for (n, station) in (190..).zip(&stations) {
        let state = eventually("a state", || state(&stack, station)).await;
        assert_eq!(state["battery_available"], json!(n), "{station}");
    }
    let report = Report {
        station: stations[3].clone(),
        valid: messages.iter().filter(|message| text(message, "station_id") == stations[3]).map(line).collect(),
        ..Report::default()
    };
    history_is_what_was_sent(&stack, &report).await;
}

/// A message that could not be processed comes back from the dead-letter queue, in each of the shapes in which it
/// arrives there.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_processed_again() {
    use base64::Engine as _;
    let stack = Stack::open().await;
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let run = uuid::Uuid::new_v4().simple().to_string();
    let station = |n: usize| format!("dead-{}-{n}", &run[..8]);
    let message = |n: usize| reading(&station(n), now(), 5);
    let mut published = message(2);
    published.as_object_mut().unwrap().remove("topic_station_id");
    let original = base64::engine::general_purpose::STANDARD.encode(published.to_string());
    let letters = [
        message(0).to_string(),
        json!({ "version": "1.0", "requestContext": { "condition": "RetriesExhausted" }, "requestPayload": message(1) }).to_string(),
        json!({ "ruleName": "r", "topic": format!("ev/station/{}/telemetry", station(2)), "base64OriginalPayload": original, "failures": [] })
            .to_string(),
    ];
    for letter in letters {
        let send = sqs.send_message().queue_url(stack.output("TelemetryDeadLetterQueueUrl")).message_body(letter);
        send.send().await.unwrap();
    }
    for n in 0..3 {
        let station = station(n);
        let state = eventually("a state", || async {
            // The first run sends the letter back, and a later one passes it on if nothing else reads its queue.
            stack.reconcile().await;
            state(&stack, &station).await
        })
        .await;
        assert_eq!(state["battery_available"], json!(5));
    }
}
