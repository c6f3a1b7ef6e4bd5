//! What surrounds a measured function: its tables and what is in them, the services it calls, and its invocations.

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use domain::event::{Event, seal};
use lambda_kit::{Function as _, Trigger};
use serde_json::{Value, json};
use store::{Archive, Db, TelemetryStore};
use telemetry_handler::TelemetryHandler;
use testkit::{FakeAws, OcmServer, RecordedCall, ended, no_redelivery, reading, sdk_config, sqs_event};

use crate::bench::process::Variables;
use crate::bench::{Server, billing, insert_stations, invocation_at, mirror, populate, python, telemetry};

/// The number of active sessions that a tick advances, at two stations.
const TICKED: u32 = 8;
/// The number of battery-swap stations.
const FLEET: u32 = 50;
/// The number of POIs in the mirror of OpenChargeMap.
const POIS: u32 = 5000;
/// Where `OCM_API_KEY_PARAMETER` says that the key is.
const KEY_PARAMETER: &str = "/key";
/// The path of the GraphQL API.
const GRAPHQL: &str = "/graphql";
/// The ARN of a dead-letter queue, which is empty.
const DEAD_LETTERS: &str = "arn:aws:sqs:eu-central-1:000000000000:ev-simulator-dlq-dev";
/// The answer of SNS to a publication.
const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\
    </PublishResponse>";
/// The variables that are the same in every world, for all functions together. A function reads those it knows.
const FIXED: [(&str, &str); 25] = [
    ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
    ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
    ("BILLING_FUNCTION", "ev-billing"),
    ("CURRENCY", "EUR"),
    ("AUTO_CONFIRM", "false"),
    ("ERROR_LOG_RETENTION_DAYS", "90"),
    ("EVENT_BUS", "ev-bus"),
    ("LIVE_PUBLISHER_FUNCTION", "none"),
    ("MAIL_CONFIGURATION_SET", "ev-mails"),
    ("MAIL_SENDER", "none"),
    ("MAX_REPLAYS", "3"),
    ("NOTIFICATION_FUNCTION", "ev-notification-service"),
    ("OCM_API_KEY_PARAMETER", KEY_PARAMETER),
    ("OCM_PAGE_SIZE", "5000"),
    ("OPERATORS_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:ev-operators"),
    ("QUARANTINE_BUCKET", telemetry::BUCKET),
    ("REJECTED_MESSAGES_LIMIT", "10"),
    ("SESSION_FUNCTION", "ev-session-service"),
    ("SIMULATOR_INLINE_SESSIONS", "2000"),
    ("SIMULATOR_SHARDS", "16"),
    ("TELEMETRY_INTERVAL_SECONDS", "5"),
    ("USER_POOL_CLIENT_ID", "client"),
    ("USER_POOL_ID", "eu-central-1_example"),
    ("USERS_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:ev-users"),
    ("WALLET_LOW_THRESHOLD", "0"),
];

/// The services around one function and its peer.
pub struct World {
    dynamodb: Server,
    s3: Server,
    ocm: Server,
    aws: FakeAws,
}

impl World {
    pub async fn start() -> Result<Self> {
        let pois = POIS.to_string();
        Ok(Self {
            dynamodb: Server::start().await?,
            s3: Server::start_as("embedded-s3").await?,
            ocm: Server::start_with(&["ocm-server", "--pois", &pois, "--port", "0"]).await?,
            aws: FakeAws::start(|call, _| (200, answer(call))).await,
        })
    }

    /// Returns the environment of a function whose tables have this prefix.
    pub fn environment(&self, prefix: &str) -> Variables {
        let queue = format!("{}/queue", self.aws.endpoint());
        let letters = json!({ DEAD_LETTERS: { "consumer": "SCHEDULE", "url": queue } });
        let all: Vec<&str> = testkit::tables().iter().map(|table| table.name.as_str()).collect();
        let mut environment = python::tables(prefix);
        environment.extend(FIXED.map(|(name, value)| (name, value.to_owned())));
        environment.extend([
            ("AWS_ENDPOINT_URL", self.aws.endpoint()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.endpoint.clone()),
            ("AWS_ENDPOINT_URL_S3", self.s3.endpoint.clone()),
            ("DEAD_LETTER_QUEUES", letters.to_string()),
            ("GRAPHQL_URL", format!("{}{GRAPHQL}", self.aws.endpoint())),
            ("HEALTH_TABLES", all.join(",")),
            ("OCM_BASE_URL", self.ocm.endpoint.clone()),
            ("QUEUE_URL", queue.clone()),
            ("SET_ASIDE_QUEUE_URL", queue.clone()),
            ("SHARD_QUEUE_URL", queue),
            ("TELEMETRY_BUCKET", telemetry::BUCKET.to_owned()),
        ]);
        environment
    }

    /// Fills the tables of a function for this number of invocations.
    pub async fn prepare(&self, function: &str, invocations: u32) -> Result<()> {
        let started = started()?;
        match function {
            "station_service" | "session_service" => {
                insert_stations(&self.dynamodb.charging(), invocations, started).await
            }
            "charging_simulator" => populate(&self.dynamodb.charging(), TICKED, started).await.map(|_| ()),
            "billing" => {
                let function = billing::function(Db::new(self.dynamodb.client()))?;
                billing::fill_wallets(&function, invocations, &invocation_at(started)).await
            }
            "telemetry_handler" | "telemetry_api" | "telemetry_monitor" => {
                Box::pin(self.report_telemetry(started)).await
            }
            "poi_service" => {
                let ssm = self.aws.endpoint();
                mirror::synchronise(&self.dynamodb.endpoint, &self.ocm.endpoint, &ssm, false).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Returns the request that fills the tables of a peer for this number of invocations.
    pub fn request(&self, peer: &str, invocations: u32) -> Value {
        let count = if peer == "tick" { TICKED } else { invocations };
        json!({ "function": peer, "count": count, "ocm": self.ocm.endpoint, "key": OcmServer::KEY })
    }

    /// Lets each battery-swap station report once, a day before the messages that are measured.
    async fn report_telemetry(&self, started: domain::Instant) -> Result<()> {
        let archive = Archive::new(aws_sdk_s3::Client::new(&sdk_config(&self.s3.endpoint)), telemetry::BUCKET);
        let states = TelemetryStore::new(Db::new(self.dynamodb.client()), "ev-telemetry");
        let handler = TelemetryHandler::new(states, archive, no_redelivery(), usize::MAX);
        let context = invocation_at(started);
        for number in 0..FLEET {
            let message = reading(&swap_station(number), started - TimeDelta::days(1), number % 17);
            handler.trigger(Trigger::Iot(message), context.clone()).await?;
        }
        Ok(())
    }
}

/// Returns the name of a function's peer.
pub fn peer(function: &str) -> &str {
    if function == "charging_simulator" { "tick" } else { function }
}

/// Returns the payload of an invocation. The invocations of a function are numbered from 0, those of its peer as well.
pub fn payload(function: &str, number: u32) -> Result<Value> {
    let started = started()?;
    Ok(match function {
        "station_service" => json!({ "action": "getStation", "stationId": format!("station-{number}") }),
        "session_service" => json!({
            "action": "startSession", "actor": { "userId": "u-1", "role": "USER" },
            "stationId": format!("station-{number}"), "portId": "port-1",
            "vehicle": { "batteryCapacityKwh": 60, "maxPowerKw": 100 }, "chargePercent": 20, "targetPercent": 80
        }),
        "charging_simulator" => json!({ "tickAt": started + TimeDelta::minutes(i64::from(number) + 1) }),
        "billing" => {
            let end = ended(&format!("s-{number}"), &format!("u-{number}"), 30_000);
            let item = format!("SESSION#{}", end.session_id);
            let envelope = seal(&item, 1, end.ended_at, "bench", [Event::SessionEnded(Box::new(end))]).remove(0);
            sqs_event(&[json!({ "detail": envelope }).to_string()])
        }
        "telemetry_handler" => {
            reading(&swap_station(number % FLEET), started + TimeDelta::seconds(number.into()), number % 17)
        }
        "poi_service" => json!({
            "action": "findPois", "latitude": 52.52 + f64::from(number % 17) * 0.002, "longitude": 13.4,
            "radiusKm": 25, "minPowerKw": 50, "limit": 10
        }),
        "notification_service" => json!({
            "action": "notify", "actor": { "userId": "ops", "role": "SYSTEM" }, "level": "WARNING",
            "service": "bench", "message": "a measured message", "deduplicationKey": format!("bench-{number}")
        }),
        _ => {
            let sample = format!("events/{function}.json");
            let text = std::fs::read_to_string(&sample).with_context(|| format!("{sample} cannot be read"))?;
            serde_json::from_str(&text)?
        }
    })
}

/// Returns the time at which the world begins.
fn started() -> Result<domain::Instant> {
    Ok("2026-03-03T10:00:00Z".parse()?)
}

fn swap_station(number: u32) -> String {
    format!("station-{number:02}")
}

/// Answers a call to a service other than DynamoDB and S3.
fn answer(call: &RecordedCall) -> String {
    match call.target.as_str() {
        "" if call.path == GRAPHQL => json!({ "data": { "publishStationProgress": {} } }).to_string(),
        "" => PUBLISHED.to_owned(),
        "AWSEvents.PutEvents" => json!({ "FailedEntryCount": 0, "Entries": [{ "EventId": "1" }] }).to_string(),
        "AWSEvents.DescribeEventBus" => json!({ "Name": "ev-bus" }).to_string(),
        "AmazonSSM.GetParameter" => {
            json!({ "Parameter": { "Name": KEY_PARAMETER, "Value": OcmServer::KEY } }).to_string()
        }
        _ => "{}".to_owned(),
    }
}
