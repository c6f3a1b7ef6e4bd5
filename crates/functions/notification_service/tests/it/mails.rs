//! Users get mails in their language, once, and nothing but SES learns their addresses.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::billing::{PaymentCompleted, PaymentFailed, PaymentRefusal};
use domain::charging::session::{SessionEnded, SessionStatus};
use domain::event::{Event, seal};
use domain::id::{InvoiceId, SessionId, UserId};
use lambda_kit::{Clock, Door};
use notification_service::{Mails, NotificationService, Topics};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, NOWHERE, invoke, low_below, no_redelivery, sdk_config, sqs_event};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>";
const MAILED: &str = r#"{"MessageId":"mail-1"}"#;
const SENDER: &str = "charging@example.com";
const ADDRESS: &str = "ada.lovelace@example.org";
const NAME: &str = "Ada Lovelace";

/// An error of SES whose message has the address of the reader, as some messages of SES do.
fn error(code: &str) -> String {
    json!({ "__type": code, "message": format!("{code}: {ADDRESS} of {NAME}") }).to_string()
}

/// The function with its table, SNS and SES.
struct World {
    dynamodb: EmbeddedDynamoDb,
    sns: FakeAws,
    ses: FakeAws,
    door: Door<NotificationService>,
}

impl World {
    /// Starts a world in which SES takes all mails.
    async fn start() -> Self {
        Self::with_ses(|_| (200, MAILED.to_owned())).await
    }

    /// Starts a world in which SES answers each mail so. `answer` gets the number of mails before it.
    async fn with_ses(answer: impl Fn(usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let ses = FakeAws::start(move |_, before| answer(before)).await;
        let endpoint = ses.endpoint();
        Self::with(ses, &endpoint).await
    }

    /// Starts a world in which SES is at this endpoint.
    async fn with(ses: FakeAws, endpoint: &str) -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
        let client = aws_sdk_sesv2::Client::new(&sdk_config(endpoint));
        let mails = Mails::new(client, SENDER.to_owned(), "ev-mails".to_owned(), dynamodb.users());
        let sns_client = aws_sdk_sns::Client::new(&sdk_config(&sns.endpoint()));
        let topics = Topics::new(sns_client, "operators".to_owned(), "users".to_owned());
        let function =
            NotificationService::new(dynamodb.error_logs(), topics, low_below("10"), Some(mails), no_redelivery());
        let door = Door::new(function, Clock(|| "2026-02-22T10:31:00Z".parse().unwrap()));
        Self { dynamodb, sns, ses, door }
    }

    /// Writes the row of a user with these attributes.
    async fn write_user(&self, user: &str, attributes: &[(&str, &str)]) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut put = self.dynamodb.client().put_item().table_name("ev-users");
        put = put.item("PK", text(&format!("USER#{user}"))).item("SK", text("METADATA"));
        for (name, value) in attributes {
            put = put.item(*name, text(value));
        }
        put.send().await.unwrap();
    }

    /// Writes the row of a confirmed user who reads this language.
    async fn write_reader(&self, user: &str, language: &str) {
        let attributes = [("email", ADDRESS), ("name", NAME), ("language", language), ("status", "ACTIVE")];
        self.write_user(user, &attributes).await;
    }

    /// Delivers messages, and returns those that failed.
    async fn deliver(&self, batch: &Value) -> Value {
        invoke(&self.door, batch.clone()).await.unwrap()["batchItemFailures"].clone()
    }

    /// Returns what SES was asked to send.
    fn mails(&self) -> Vec<Value> {
        self.ses.calls().iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    /// Returns the subjects of the mails.
    fn subjects(&self) -> Vec<String> {
        let mails = self.mails();
        mails.iter().map(|mail| mail["Content"]["Simple"]["Subject"]["Data"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the OPEN entries of the error log.
    async fn open_logs(&self) -> Vec<Value> {
        let list = json!({ "action": "listLogs", "actor": { "userId": "t", "role": "TECH_SUPPORT" } });
        invoke(&self.door, list).await.unwrap()["items"].as_array().unwrap().clone()
    }

    /// Fails if the error log or a topic has the address or the name of the user.
    async fn assert_nobody_else_knows_the_user(&self) {
        let items = format!("{:?}", self.dynamodb.items("ev-error-logs").await);
        let published: String = self.sns.calls().into_iter().map(|call| call.body).collect();
        for secret in [ADDRESS, NAME, "Lovelace", "example.org"] {
            assert!(!items.contains(secret), "the error log has {secret}: {items}");
            assert!(!published.contains(secret), "a topic got {secret}: {published}");
        }
    }
}

/// Builds a batch with events, whose ids depend on `item`.
fn batch(item: &str, events: impl IntoIterator<Item = Event>) -> Value {
    let envelopes = seal(item, 1, "2026-02-22T10:30:00Z".parse().unwrap(), "correlation-1", events);
    let bodies: Vec<String> = envelopes.iter().map(|envelope| json!({ "detail": envelope }).to_string()).collect();
    sqs_event(&bodies)
}

/// A session with 30 kWh in half an hour, which costs 15.00 EUR.
fn ended(user: &str) -> SessionEnded {
    testkit::ended("x-1", user, 30_000)
}

fn session_ended(user: &str) -> Event {
    Event::SessionEnded(Box::new(ended(user)))
}

fn payment_failed(user: &str, reason: PaymentRefusal) -> Event {
    let session_id = SessionId::new("x-1").unwrap();
    Event::PaymentFailed(PaymentFailed {
        invoice_id: InvoiceId::of(&session_id),
        session_id,
        user_id: UserId::new(user).unwrap(),
        amount: "1015.00".parse().unwrap(),
        currency: "EUR".parse().unwrap(),
        reason,
    })
}

fn paid(user: &str, balance: &str) -> Event {
    let session_id = SessionId::new("x-1").unwrap();
    Event::PaymentCompleted(PaymentCompleted {
        invoice_id: InvoiceId::of(&session_id),
        session_id,
        user_id: UserId::new(user).unwrap(),
        amount: "15.00".parse().unwrap(),
        currency: "EUR".parse().unwrap(),
        balance: Some(balance.parse().unwrap()),
        wallet_version: Some(2),
    })
}

/// The three mails to a user of each language.
#[tokio::test]
async fn each_user_is_mailed_in_the_language_of_the_user() {
    let cases = [
        ("en", "15.00 EUR", "1,015.00 EUR", "9.50 EUR", "Hello Ada Lovelace,\n", "Cost, including VAT: 15.00 EUR\n"),
        ("de", "15,00 EUR", "1.015,00 EUR", "9,50 EUR", "Guten Tag Ada Lovelace,\n", "inklusive Mehrwertsteuer: 15,00"),
    ];
    for (language, cost, due, balance, greeting, line) in cases {
        let world = World::start().await;
        world.write_reader("u-1", language).await;
        let events =
            [session_ended("u-1"), payment_failed("u-1", PaymentRefusal::InsufficientFunds), paid("u-1", "9.50")];
        for (number, event) in events.into_iter().enumerate() {
            assert_eq!(world.deliver(&batch(&format!("ITEM/{number}"), [event])).await, json!([]));
        }
        let subjects = world.subjects();
        for (subject, amount) in subjects.iter().zip([cost, due, balance]) {
            assert!(subject.contains(amount), "{subjects:?} in {language}");
        }
        let mails = world.mails();
        assert_eq!(mails.len(), 3, "{mails:?}");
        for mail in &mails {
            assert_eq!(mail["FromEmailAddress"], SENDER);
            assert_eq!(mail["Destination"], json!({ "ToAddresses": [ADDRESS] }));
            assert_eq!(mail["ConfigurationSetName"], "ev-mails");
        }
        let body = &mails[0]["Content"]["Simple"]["Body"];
        let text = body["Text"]["Data"].as_str().unwrap();
        assert!(text.starts_with(greeting) && text.contains(line), "{text}");
        assert!(body["Html"]["Data"].as_str().unwrap().contains(&format!("<html lang=\"{language}\">")), "{body}");
        world.assert_nobody_else_knows_the_user().await;
    }
}

#[tokio::test]
async fn a_session_that_failed_has_no_cost_and_a_wallet_is_low_once() {
    let world = World::start().await;
    world.write_reader("u-1", "en").await;
    let failed = SessionEnded { status: SessionStatus::Failed, ..ended("u-1") };
    let events = [
        Event::SessionEnded(Box::new(failed)),
        paid("u-1", "25.00"),
        paid("u-1", "9.99"),
        paid("u-1", "-5.01"), // as if it had been 9.99 before
    ];
    for (number, event) in events.into_iter().enumerate() {
        assert_eq!(world.deliver(&batch(&format!("ITEM/{number}"), [event])).await, json!([]));
    }
    assert_eq!(world.subjects(), ["Your charging session failed", "Your balance is low: 9.99 EUR"]);
    assert_eq!(world.sns.calls().len(), 2, "a payment that changes nothing is not notified");
}

#[tokio::test]
async fn a_message_that_is_delivered_again_is_mailed_once() {
    let world = World::start().await;
    world.write_reader("u-1", "de").await;
    let batch = batch("ITEM/1", [session_ended("u-1")]);
    for _ in 0..3 {
        assert_eq!(world.deliver(&batch).await, json!([]));
    }
    assert_eq!((world.mails().len(), world.sns.calls().len()), (1, 1));
}

/// A message is retried if SES is busy, broken or not set up. The topic, which took the notification, gets it once.
#[tokio::test]
async fn a_mail_that_ses_does_not_take_is_sent_by_the_next_delivery() {
    let failures = [
        (429, error("TooManyRequestsException")),
        (400, error("SendingPausedException")),
        (400, error("MailFromDomainNotVerifiedException")),
        (403, error("AccessDeniedException")),
        (503, String::new()),
    ];
    for (status, body) in failures {
        let answer = (status, body.clone());
        let world =
            World::with_ses(move |before| if before < 2 { answer.clone() } else { (200, MAILED.to_owned()) }).await;
        world.write_reader("u-1", "en").await;
        let batch = batch("ITEM/1", [session_ended("u-1")]);
        for _ in 0..2 {
            assert_eq!(world.deliver(&batch).await, json!([{ "itemIdentifier": "m-0" }]), "{status} {body}");
        }
        for _ in 0..2 {
            assert_eq!(world.deliver(&batch).await, json!([]), "{status} {body}");
        }
        assert_eq!((world.mails().len(), world.sns.calls().len()), (3, 1), "{status} {body}");
        assert!(world.open_logs().await.is_empty(), "{status} {body}");
        world.assert_nobody_else_knows_the_user().await;
    }
}

#[tokio::test]
async fn a_failed_mail_fails_its_own_message_alone() {
    let world = World::with(FakeAws::start(|_, _| (500, String::new())).await, NOWHERE).await;
    world.write_reader("u-1", "en").await;
    let failed = world.deliver(&batch("ITEM/1", [session_ended("u-1"), session_ended("u-2")])).await;
    assert_eq!(failed, json!([{ "itemIdentifier": "m-0" }]), "the other user has no row, and so no mail");
    assert_eq!(world.sns.calls().len(), 2);
}

/// A mail that SES refuses for good, e.g. because of the address, is not tried again. The operators are told once a day,
/// since SES may refuse all mails.
#[tokio::test]
async fn a_refused_mail_is_reported_without_the_address_and_not_retried() {
    for code in ["MessageRejected", "BadRequestException"] {
        let world = World::with_ses(move |_| (400, error(code))).await;
        world.write_reader("u-1", "en").await;
        world.write_reader("u-2", "en").await;
        let first = batch("ITEM/1", [session_ended("u-1")]);
        for _ in 0..2 {
            assert_eq!(world.deliver(&first).await, json!([]), "{code}");
        }
        assert_eq!(world.mails().len(), 1, "{code}");
        let logs = world.open_logs().await;
        assert_eq!(logs.len(), 1, "{logs:?}");
        assert_eq!((&logs[0]["level"], &logs[0]["service"]), (&json!("WARNING"), &json!("notification_service")));
        assert_eq!(logs[0]["message"], format!("SES refuses mails ({code}), first a mail to user u-1"));
        assert_eq!(world.deliver(&batch("ITEM/2", [session_ended("u-2")])).await, json!([]));
        assert_eq!((world.mails().len(), world.open_logs().await.len()), (2, 1), "{code}");
        let to_operators = world.sns.calls().iter().filter(|call| call.body.contains("TopicArn=operators")).count();
        assert_eq!(to_operators, 1, "{code}");
        world.assert_nobody_else_knows_the_user().await;
    }
}

#[tokio::test]
async fn whoever_has_no_confirmed_address_gets_no_mail() {
    let world = World::start().await;
    world.write_user("no-address", &[("status", "ACTIVE"), ("name", NAME)]).await;
    world.write_user("unconfirmed", &[("status", "UNCONFIRMED"), ("email", ADDRESS)]).await;
    world.write_user("deleted", &[("status", "DELETED")]).await;
    for user in ["no-row", "no-address", "unconfirmed", "deleted"] {
        assert_eq!(world.deliver(&batch(user, [session_ended(user)])).await, json!([]), "{user}");
    }
    assert_eq!((world.mails().len(), world.sns.calls().len()), (0, 4));
    // A blocked user has to pay open invoices all the same.
    world.write_user("blocked", &[("status", "BLOCKED"), ("email", ADDRESS)]).await;
    let unpaid = batch("blocked", [payment_failed("blocked", PaymentRefusal::CurrencyMismatch)]);
    assert_eq!(world.deliver(&unpaid).await, json!([]));
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    let text = mails[0]["Content"]["Simple"]["Body"]["Text"]["Data"].as_str().unwrap();
    assert!(text.starts_with("Hello,\n") && text.contains("another currency"), "{text}");
}

/// Without a sender, users are not even read: the function then has no right to.
#[tokio::test]
async fn without_a_sender_nobody_is_mailed() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    dynamodb.client().delete_table().table_name("ev-users").send().await.unwrap();
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let topics =
        Topics::new(aws_sdk_sns::Client::new(&sdk_config(&sns.endpoint())), "operators".to_owned(), "users".to_owned());
    let function = NotificationService::new(dynamodb.error_logs(), topics, low_below("10"), None, no_redelivery());
    let door = Door::new(function, Clock::SYSTEM);
    let answer = invoke(&door, batch("ITEM/1", [session_ended("u-1")])).await.unwrap();
    assert_eq!((answer["batchItemFailures"].clone(), sns.calls().len()), (json!([]), 1));
}
