//! Notifications reach the person they are for.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Stack, admin, eventually, text};
use serde_json::{Value, json};

/// How long a notification that must not arrive is waited for.
const SILENCE: Duration = Duration::from_secs(3);

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// A queue that is subscribed to the users' topic.
struct Inbox {
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    url: String,
    subscription: String,
}

impl Inbox {
    /// Subscribes a new queue with a filter policy.
    async fn open(stack: &Stack, filter: &Value) -> Self {
        let (sns, sqs) = (aws_sdk_sns::Client::new(&stack.config), aws_sdk_sqs::Client::new(&stack.config));
        let topic = stack.output("UsersTopicArn");
        let created = sqs.create_queue().queue_name(unique("ev-e2e-inbox")).send().await.unwrap();
        let url = created.queue_url.unwrap();
        let arn = QueueAttributeName::QueueArn;
        let known = sqs.get_queue_attributes().queue_url(&url).attribute_names(arn.clone()).send().await.unwrap();
        let queue = known.attributes.unwrap()[&arn].clone();
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" }, "Action": "sqs:SendMessage",
                "Resource": queue, "Condition": { "ArnEquals": { "aws:SourceArn": topic } }
            }]
        });
        let set = sqs.set_queue_attributes().queue_url(&url).attributes(QueueAttributeName::Policy, policy.to_string());
        set.send().await.unwrap();
        let subscribe = sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(queue).return_subscription_arn(true);
        let subscribed = subscribe.attributes("FilterPolicy", filter.to_string()).send().await.unwrap();
        Self { sns, sqs, url, subscription: subscribed.subscription_arn.unwrap() }
    }

    /// Takes the notifications that have arrived.
    async fn take(&self) -> Vec<Value> {
        let receive = self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let received = receive.wait_time_seconds(1).send().await.unwrap();
        let mut taken = Vec::new();
        for message in received.messages() {
            let delete = self.sqs.delete_message().queue_url(&self.url);
            delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
            taken.push(serde_json::from_str(message.body().unwrap()).unwrap());
        }
        taken
    }

    async fn close(self) {
        self.sns.unsubscribe().subscription_arn(self.subscription).send().await.unwrap();
        self.sqs.delete_queue().queue_url(self.url).send().await.unwrap();
    }
}

/// Notifies a user, or all users.
async fn notify(stack: &Stack, user: Option<&str>, message: &str) {
    let mut notify = json!({
        "action": "notify", "actor": admin(), "level": "INFO", "service": "e2e", "audience": "USERS", "message": message
    });
    if let Some(user) = user {
        notify["userId"] = json!(user);
    }
    stack.invoke("NotificationService", notify).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_with_a_filter_gets_the_notifications_of_its_user_alone() {
    let stack = Stack::open().await;
    let (ours, other) = (unique("u"), unique("u"));
    let inbox = Inbox::open(&stack, &json!({ "userId": [ours] })).await;
    notify(&stack, Some(&other), "for another user").await;
    notify(&stack, None, "for all users").await;
    notify(&stack, Some(&ours), "for our user").await;

    let mut arrived = eventually("the notification of our user", || async {
        let taken = inbox.take().await;
        (!taken.is_empty()).then_some(taken)
    })
    .await;
    tokio::time::sleep(SILENCE).await;
    arrived.extend(inbox.take().await);
    inbox.close().await;

    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert_eq!(text(&arrived[0], "Message"), "for our user");
    let attribute = |name: &str| arrived[0]["MessageAttributes"][name]["Value"].clone();
    let expected = [("userId", ours.as_str()), ("audience", "USERS"), ("kind", "NOTICE"), ("level", "INFO")];
    for (name, value) in expected {
        assert_eq!(attribute(name), value, "{name}: {}", arrived[0]);
    }
}

/// The same filter with the kind of the notification gets only the ends of the user's sessions.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_selects_the_kinds_of_notifications_of_a_user() {
    let stack = Stack::open().await;
    let user = unique("u");
    let inbox = Inbox::open(&stack, &json!({ "userId": [user], "kind": ["SESSION_ENDED"] })).await;
    notify(&stack, Some(&user), "not the end of a session").await;
    let station = stack.station(1).await;
    let session = stack.start(&station, 1, &user, json!({})).await.unwrap();
    stack.stop(text(&session, "sessionId"), &user).await.unwrap();

    let mut arrived = eventually("the end of the session", || async {
        let taken = inbox.take().await;
        (!taken.is_empty()).then_some(taken)
    })
    .await;
    // The invoice is notified some time later, and has another kind.
    stack.invoice(text(&session, "sessionId")).await;
    tokio::time::sleep(SILENCE).await;
    arrived.extend(inbox.take().await);
    inbox.close().await;

    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert!(text(&arrived[0], "Message").contains(text(&session, "sessionId")), "{}", arrived[0]);
}
