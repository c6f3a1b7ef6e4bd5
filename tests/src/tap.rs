//! Events on the bus.

use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Stack, eventually};

/// A queue behind a rule of the event bus that receives the events of a pattern. It is removed after the test.
#[derive(Debug)]
pub struct Tap {
    sqs: aws_sdk_sqs::Client,
    events: aws_sdk_eventbridge::Client,
    bus: String,
    name: String,
    url: String,
}

impl Tap {
    /// Receives the events that match a pattern from now on.
    pub async fn open(stack: &Stack, pattern: &Value) -> Self {
        let (sqs, events) = (aws_sdk_sqs::Client::new(&stack.config), aws_sdk_eventbridge::Client::new(&stack.config));
        let name = format!("e2e-{}", Uuid::new_v4());
        let bus = stack.output("EventBusName").to_owned();
        let url = sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
        let arn = QueueAttributeName::QueueArn;
        let known = sqs.get_queue_attributes().queue_url(&url).attribute_names(arn.clone()).send().await.unwrap();
        let arn = known.attributes.unwrap()[&arn].clone();
        let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
            "Principal": { "Service": "events.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": arn }] });
        let set = sqs.set_queue_attributes().queue_url(&url).attributes(QueueAttributeName::Policy, policy.to_string());
        set.send().await.unwrap();
        events.put_rule().name(&name).event_bus_name(&bus).event_pattern(pattern.to_string()).send().await.unwrap();
        let target = Target::builder().id("tap").arn(arn).build().unwrap();
        events.put_targets().rule(&name).event_bus_name(&bus).targets(target).send().await.unwrap();
        Self { sqs, events, bus, name, url }
    }

    /// Receives the events of these stations' sessions from now on.
    pub async fn of_sessions(stack: &Stack, stations: &[&str]) -> Self {
        Self::open(stack, &json!({ "source": ["evoke.sessions"], "detail": { "stationId": stations } })).await
    }

    /// Reads the details of events until `enough` accepts them.
    pub async fn read(&self, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let all = std::sync::Mutex::new(Vec::new());
        eventually("events on the bus", || async {
            let answer =
                self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(10).send().await.unwrap();
            for message in answer.messages() {
                let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
                assert_eq!(event["detail-type"], event["detail"]["eventType"]);
                all.lock().unwrap().push(event["detail"].clone());
                let handle = message.receipt_handle().unwrap();
                self.sqs.delete_message().queue_url(&self.url).receipt_handle(handle).send().await.unwrap();
            }
            let all = all.lock().unwrap();
            enough(&all).then(|| all.clone())
        })
        .await
    }

    /// Removes the rule and the queue.
    pub async fn close(self) {
        self.events.remove_targets().rule(&self.name).event_bus_name(&self.bus).ids("tap").send().await.unwrap();
        self.events.delete_rule().name(&self.name).event_bus_name(&self.bus).send().await.unwrap();
        self.sqs.delete_queue().queue_url(&self.url).send().await.unwrap();
    }
}
