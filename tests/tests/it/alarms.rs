//! Every alarm of the deployed stack is raised by what it watches.
//!
//! The local cloud makes no metrics. Those of AWS itself are put under the names that AWS documents. Those of the
//! functions are what the deployed functions wrote into their logs, after the test provoked it. On AWS, CloudWatch
//! reads them there; here the test puts them. The local cloud compares neither dimensions nor numbers of data points,
//! so the test compares the metrics of an alarm by itself, and puts as many data points as the alarm requires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use chrono::TimeDelta;
use e2e::{Stack, eventually, minutes_after, now, text};
use serde_json::{Value, json};
use testkit::resources;

/// Declares the tests. Each is a function below, with the alarms that it raises, and fails if it does not raise exactly
/// these.
macro_rules! tests {
    ($($test:ident: $($alarm:literal),+;)+) => {
        /// The alarms that the tests raise.
        const RAISED: &[&str] = &[$($($alarm),+),+];

        /// Nobody may put data into the namespaces of AWS itself, and its alarms evaluate when they like.
        mod local_cloud_alone {
            use super::{BTreeSet, CloudWatch};

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    let cloudwatch = CloudWatch::open().await;
                    Box::pin(super::$test(&cloudwatch)).await;
                    let raised = cloudwatch.raised.lock().unwrap().clone();
                    assert_eq!(raised, BTreeSet::from([$(format!("ev-{}-dev", $alarm)),+]));
                }
            )+
        }
    };
}

tests! {
    server_errors_of_the_http_api_raise_an_alarm: "http-5xx";
    events_that_wait_to_be_published_raise_an_alarm: "event-relay-age";
    ends_of_sessions_that_wait_for_billing_raise_an_alarm: "billing-age";
    messages_of_stations_that_wait_raise_an_alarm: "telemetry-age";
    a_letter_in_the_last_queue_raises_an_alarm: "reconciler-dlq-depth";
    failures_of_the_platform_raise_an_alarm: "internal-failures";
    a_poisonous_dead_letter_raises_two_alarms: "dead-letters", "quarantine";
    a_defect_in_the_books_raises_an_alarm: "audit-defects";
    a_day_without_a_synchronisation_raises_an_alarm: "ocm-sync-missing";
}

/// The name of a metric: its namespace, its own name and its dimensions.
type Metric = (String, String, BTreeMap<String, String>);

#[test]
fn each_alarm_of_the_template_is_raised_by_a_test_here() {
    let alarms = resources("AWS::CloudWatch::Alarm");
    let names: BTreeSet<&str> =
        alarms.iter().map(|(_, alarm)| alarm["AlarmName"]["Fn::Sub"].as_str().unwrap()).collect();
    let raised: BTreeSet<String> = RAISED.iter().map(|name| format!("ev-{name}-${{Environment}}")).collect();
    assert_eq!(names, raised.iter().map(String::as_str).collect());
}

/// The APIs of CloudWatch and its logs. No SDK is built for them: these tests make a handful of calls, and the local
/// cloud checks no signatures.
struct CloudWatch {
    stack: Stack,
    http: reqwest::Client,
    /// The names of the alarms that were raised.
    raised: Mutex<BTreeSet<String>>,
}

/// An alarm of the stack.
struct Alarm<'a> {
    cloudwatch: &'a CloudWatch,
    settings: Value,
}

impl CloudWatch {
    async fn open() -> Self {
        Self { stack: Stack::local().await, http: reqwest::Client::new(), raised: Mutex::default() }
    }

    async fn call(&self, service: &str, target: &str, request: &Value) -> Value {
        let region = self.stack.output("region");
        let scope = format!("test/20260101/{region}/{service}/aws4_request");
        let call = self
            .http
            .post(self.stack.output("endpoint"))
            .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target)
            .body(request.to_string());
        let answer = call.send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{target}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn metrics(&self, action: &str, request: &Value) -> Value {
        self.call("monitoring", &format!("GraniteServiceVersion20100801.{action}"), request).await
    }

    /// Returns an alarm in the state OK. It notifies the operators.
    async fn alarm(&self, name: &str) -> Alarm<'_> {
        let name = format!("ev-{name}-dev");
        let state = json!({ "AlarmName": name, "StateValue": "OK", "StateReason": "a test begins" });
        self.metrics("SetAlarmState", &state).await;
        let mut described = self.metrics("DescribeAlarms", &json!({ "AlarmNames": [name] })).await;
        let settings = described["MetricAlarms"][0].take();
        assert_eq!(settings["AlarmActions"], json!([self.stack.output("OperatorsTopicArn")]), "{settings}");
        Alarm { cloudwatch: self, settings }
    }

    /// Waits for a metric in the log of a function, and returns the line of the log.
    async fn logged(&self, function: &str, metric: &str, since: chrono::DateTime<chrono::Utc>) -> Value {
        let group = format!("/aws/lambda/{}", self.stack.output(&format!("{function}FunctionName")));
        let filter =
            json!({ "logGroupName": group, "filterPattern": metric, "startTime": since.timestamp_millis() - 1000 });
        eventually(&format!("{metric} in the log of {function}"), || async {
            let found = self.call("logs", "Logs_20140328.FilterLogEvents", &filter).await;
            let messages = found["events"].as_array().unwrap().iter().filter_map(|event| event["message"].as_str());
            let mut lines = messages.filter_map(|message| serde_json::from_str::<Value>(message.trim()).ok());
            lines.find(|line| line["_aws"].is_object() && !line[metric].is_null())
        })
        .await
    }
}

impl Alarm<'_> {
    fn metric(&self) -> Metric {
        let dimensions = self.settings["Dimensions"].as_array().unwrap().iter();
        let dimensions = dimensions.map(|one| (text(one, "Name").to_owned(), text(one, "Value").to_owned())).collect();
        (text(&self.settings, "Namespace").to_owned(), text(&self.settings, "MetricName").to_owned(), dimensions)
    }

    /// Puts a value of the metric into each of the last periods, as many as raise the alarm.
    async fn put(&self, values: &Value) {
        let (namespace, name, dimensions) = self.metric();
        let dimensions: Vec<Value> =
            dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        let period = self.settings["Period"].as_i64().unwrap();
        let periods = self.settings["EvaluationPeriods"].as_i64().unwrap();
        let breaching = self.settings["DatapointsToAlarm"].as_i64().unwrap_or(periods);
        assert!(breaching <= periods);
        let data: Vec<Value> = (0..breaching)
            .map(|ago| {
                let at = (now() - TimeDelta::seconds(ago * period)).timestamp();
                let mut datum = json!({ "MetricName": name, "Dimensions": dimensions, "Timestamp": at });
                datum[if values.is_array() { "Values" } else { "Value" }] = values.clone();
                datum
            })
            .collect();
        let cloudwatch = self.cloudwatch;
        cloudwatch.metrics("PutMetricData", &json!({ "Namespace": namespace, "MetricData": data })).await;
    }

    /// Puts what a function wrote into its log, once for each period that it takes.
    async fn replay(&self, line: &Value) {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        let (_, name, _) = self.metric();
        let mut names = directive["Metrics"].as_array().unwrap().iter().map(|metric| text(metric, "Name"));
        assert!(names.any(|written| written == name), "{line}");
        let dimensions = directive["Dimensions"][0].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let dimensions = dimensions.map(|name| (name.to_owned(), text(line, name).to_owned())).collect();
        let written: Metric = (text(directive, "Namespace").to_owned(), name.clone(), dimensions);
        assert_eq!(written, self.metric(), "what the function writes, and what the alarm reads");
        self.put(&line[&name]).await;
    }

    async fn becomes(&self, state: &str) {
        let name = text(&self.settings, "AlarmName");
        eventually(&format!("the state {state} of {name}"), || async {
            let described = self.cloudwatch.metrics("DescribeAlarms", &json!({ "AlarmNames": [name] })).await;
            (described["MetricAlarms"][0]["StateValue"] == state).then_some(())
        })
        .await;
        if state == "ALARM" {
            self.cloudwatch.raised.lock().unwrap().insert(name.to_owned());
        }
    }

    /// The metric of AWS itself with this name raises the alarm when it has this value.
    async fn is_raised_by(&self, (namespace, name): (&str, &str), (dimension, of): (&str, &str), value: f64) {
        let dimensions = BTreeMap::from([(dimension.to_owned(), of.to_owned())]);
        assert_eq!(self.metric(), (namespace.to_owned(), name.to_owned(), dimensions));
        self.put(&json!(value)).await;
        self.becomes("ALARM").await;
    }
}

/// Returns the name of a queue from the output with its URL.
fn queue<'a>(stack: &'a Stack, output: &str) -> &'a str {
    stack.output(output).rsplit('/').next().unwrap()
}

async fn server_errors_of_the_http_api_raise_an_alarm(cloudwatch: &CloudWatch) {
    let api = cloudwatch.stack.output("HttpApiId");
    let alarm = cloudwatch.alarm("http-5xx").await;
    alarm.is_raised_by(("AWS/ApiGateway", "5xx"), ("ApiId", api), 1.0).await;
}

async fn events_that_wait_to_be_published_raise_an_alarm(cloudwatch: &CloudWatch) {
    let relay = cloudwatch.stack.output("EventRelayFunctionName");
    let alarm = cloudwatch.alarm("event-relay-age").await;
    alarm.is_raised_by(("AWS/Lambda", "IteratorAge"), ("FunctionName", relay), 120_001.0).await;
}

async fn ends_of_sessions_that_wait_for_billing_raise_an_alarm(cloudwatch: &CloudWatch) {
    let billing = queue(&cloudwatch.stack, "BillingQueueUrl");
    let alarm = cloudwatch.alarm("billing-age").await;
    alarm.is_raised_by(("AWS/SQS", "ApproximateAgeOfOldestMessage"), ("QueueName", billing), 121.0).await;
}

async fn messages_of_stations_that_wait_raise_an_alarm(cloudwatch: &CloudWatch) {
    let stack = &cloudwatch.stack;
    let alarm = cloudwatch.alarm("telemetry-age").await;
    if text(&alarm.settings, "Namespace") == "AWS/SQS" {
        // With TelemetryIngestion=batched.
        let of = ("QueueName", queue(stack, "TelemetryQueueUrl"));
        alarm.is_raised_by(("AWS/SQS", "ApproximateAgeOfOldestMessage"), of, 61.0).await;
    } else {
        let of = ("FunctionName", stack.output("TelemetryHandlerFunctionName"));
        alarm.is_raised_by(("AWS/Lambda", "AsyncEventAge"), of, 60_001.0).await;
    }
}

async fn a_letter_in_the_last_queue_raises_an_alarm(cloudwatch: &CloudWatch) {
    let last = queue(&cloudwatch.stack, "ReconcilerDeadLetterQueueUrl");
    let alarm = cloudwatch.alarm("reconciler-dlq-depth").await;
    alarm.is_raised_by(("AWS/SQS", "ApproximateNumberOfMessagesVisible"), ("QueueName", last), 1.0).await;
}

/// A record that `event_relay` cannot read is a failure of the platform.
async fn failures_of_the_platform_raise_an_alarm(cloudwatch: &CloudWatch) {
    let alarm = cloudwatch.alarm("internal-failures").await;
    let began = now();
    let record = json!({
        "eventID": "1", "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1", "eventSourceARN": "arn:aws:dynamodb:eu-central-1:0:table/t/stream/s",
        "dynamodb": {
            "ApproximateCreationDateTime": began.timestamp(), "SequenceNumber": "1", "SizeBytes": 1,
            "StreamViewType": "NEW_IMAGE", "Keys": { "PK": { "S": "e2e" }, "SK": { "S": "METADATA" } },
            "NewImage": { "PK": { "S": "e2e" }, "SK": { "S": "METADATA" }, "outbox": { "S": "not JSON" } }
        }
    });
    let refused = cloudwatch.stack.invoke("EventRelay", json!({ "Records": [record] })).await.unwrap_err();
    assert_eq!(refused.0, "InternalError", "{}", refused.1);
    alarm.replay(&cloudwatch.logged("EventRelay", "InternalFailures", began).await).await;
    alarm.becomes("ALARM").await;
}

async fn a_poisonous_dead_letter_raises_two_alarms(cloudwatch: &CloudWatch) {
    let (taken, quarantined) = (cloudwatch.alarm("dead-letters").await, cloudwatch.alarm("quarantine").await);
    let began = now();
    let sqs = aws_sdk_sqs::Client::new(&cloudwatch.stack.config);
    let send = sqs.send_message().queue_url(cloudwatch.stack.output("NotificationDeadLetterQueueUrl"));
    send.message_body(format!("poison {}", uuid::Uuid::new_v4())).send().await.unwrap();
    cloudwatch.stack.reconcile().await;
    taken.replay(&cloudwatch.logged("DlqReconciler", "DeadLetters", began).await).await;
    taken.becomes("ALARM").await;
    quarantined.replay(&cloudwatch.logged("DlqReconciler", "DeadLettersQuarantined", began).await).await;
    quarantined.becomes("ALARM").await;
}

async fn a_defect_in_the_books_raises_an_alarm(cloudwatch: &CloudWatch) {
    let stack = &cloudwatch.stack;
    let alarm = cloudwatch.alarm("audit-defects").await;
    let began = now();
    let (station, user) = (stack.station(1).await, format!("u-{}", uuid::Uuid::new_v4().simple()));
    let session = stack.start(&station, 1, &user, json!({})).await.unwrap();
    let id = text(&session, "sessionId");
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    let stopped = stack.stop(id, &user).await.unwrap();
    stack.invoice(id).await;
    stack.lose_invoice(id, &user).await;
    let audit = json!({ "from": stopped["endedAt"], "to": stopped["endedAt"] });
    eventually("the defect", || async {
        let answer = stack.invoke("BillingAudit", audit.clone()).await.unwrap();
        (!answer["defects"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    alarm.replay(&cloudwatch.logged("BillingAudit", "AuditDefects", began).await).await;
    alarm.becomes("ALARM").await;
    let repair = json!({ "action": "republishEnd", "actor": e2e::admin(), "sessionId": id });
    stack.invoke("SessionService", repair).await.unwrap();
    stack.invoice(id).await;
}

/// The local cloud does not treat missing data as breaching, so a day without a synchronisation is put as a sum of 0.
/// No other test runs at the same time: see `.config/nextest.toml`.
async fn a_day_without_a_synchronisation_raises_an_alarm(cloudwatch: &CloudWatch) {
    let alarm = cloudwatch.alarm("ocm-sync-missing").await;
    assert_eq!((text(&alarm.settings, "TreatMissingData"), text(&alarm.settings, "Statistic")), ("breaching", "Sum"));
    let (namespace, name, _) = alarm.metric();
    let began = now();
    let day = json!({
        "Namespace": namespace, "MetricName": name, "Period": 86400, "Statistics": ["Sum"],
        "StartTime": (began - TimeDelta::days(1)).timestamp(), "EndTime": began.timestamp() + 60
    });
    let before = cloudwatch.metrics("GetMetricStatistics", &day).await;
    // What this test put within the last day is still there. Nothing deletes it, so its negative is added.
    let points = before["Datapoints"].as_array().unwrap().iter();
    let sum: f64 = points.map(|point| point["Sum"].as_f64().unwrap()).sum();
    alarm.put(&json!(-sum)).await;
    alarm.becomes("ALARM").await;
    eventually("a synchronisation", || async {
        let answer = cloudwatch.stack.invoke("OcmSync", json!({})).await.unwrap();
        (text(&answer, "outcome") != "BUSY").then_some(())
    })
    .await;
    alarm.replay(&cloudwatch.logged("OcmSync", "OcmSyncs", began).await).await;
    alarm.becomes("OK").await;
}
