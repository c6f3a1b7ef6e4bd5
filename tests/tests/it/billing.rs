//! From the end of a session to its invoice on the deployed stack, and the handling of events that cannot be billed.

use domain::dead_letter::QuarantinedLetter;
use e2e::{Stack, admin, eventually, minutes_after, text};
use serde_json::{Value, json};

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// Builds the end of a session as the rule of the event bus delivers it to billing. `energy` is the energy (kWh) that
/// the event states; its charging periods contain 30 kWh.
fn ended(session: &str, user: &str, energy: f64) -> String {
    let example = include_str!("../../../events/contracts/SESSION_ENDED.v1.example.json");
    let mut detail: Value = serde_json::from_str(example).unwrap();
    detail["sessionId"] = json!(session);
    detail["userId"] = json!(user);
    detail["energyKwh"] = json!(energy);
    detail["eventId"] = json!(uuid::Uuid::new_v4());
    json!({ "detail-type": "SESSION_ENDED", "source": "evoke.sessions", "detail": detail }).to_string()
}

/// Waits for a log entry that contains this text.
async fn told(stack: &Stack, service: &str, what: &str) -> Value {
    eventually(&format!("a notification of {what}"), || async {
        let list = json!({ "action": "listLogs", "actor": admin(), "service": service, "limit": 100 });
        let logs = stack.invoke("NotificationService", list).await.unwrap();
        logs["items"].as_array().unwrap().iter().find(|log| text(log, "message").contains(what)).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invoice_is_the_running_cost_and_the_quote() {
    let stack = Stack::open().await;
    let (station, user) = (stack.station(1).await, unique("u"));
    stack.top_up(&user, "50.00", "k").await.unwrap();
    let session = stack.start(&station, 1, &user, json!({ "targetPercent": 80 })).await.unwrap();
    stack.tick(&station, minutes_after(&session, 18)).await.unwrap();
    let running = stack.session(text(&session, "sessionId")).await;
    let stopped = stack.stop(text(&session, "sessionId"), &user).await.unwrap();
    assert_eq!(stopped["cost"], running["cost"], "the stop is before the time of the tick");
    let quote = json!({ "action": "quote", "stationId": station, "energyKwh": stopped["energyKwh"], "minutes": stopped["durationMinutes"] });
    let quote = stack.invoke("SessionService", quote).await.unwrap();
    let invoice = stack.invoice(text(&session, "sessionId")).await;
    assert_eq!((text(&invoice, "totalInclVat"), text(&invoice, "status")), (text(&stopped, "cost"), "PAID"));
    assert_eq!(invoice["totalInclVat"], quote["cost"]);
    assert_eq!(invoice["lines"], quote["lines"]);
    let wallet = json!({ "action": "getWallet", "actor": { "userId": user, "role": "USER" } });
    assert_eq!(text(&stack.invoke("Billing", wallet).await.unwrap(), "balance"), "35.30", "50.00 - 14.70");
    let log = told(&stack, "evoke.billing", text(&invoice, "invoiceId")).await;
    assert!(text(&log, "message").contains("14.70 EUR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepaid_session_ends_at_the_instant_the_wallet_is_used_up() {
    let stack = Stack::open().await;
    let (station, user) = (stack.station(2).await, unique("u"));
    let prepaid = json!({ "limits": { "prepaid": true }, "vehicle": { "batteryCapacityKwh": 1000 } });
    let refused = stack.start(&station, 1, &user, prepaid.clone()).await.unwrap_err();
    assert_eq!(refused.0, "ConflictError");
    assert!(refused.1.contains("wallet is empty"), "{}", refused.1);
    stack.top_up(&user, "9.80", "k").await.unwrap();
    let session = stack.start(&station, 1, &user, prepaid.clone()).await.unwrap();
    assert_eq!(session["limits"], json!({ "maxCost": "9.80", "prepaid": true }));
    let refused = stack.start(&station, 2, &user, prepaid.clone()).await.unwrap_err();
    assert!(refused.1.contains("9.80 are held"), "{}", refused.1);
    stack.tick(&station, minutes_after(&session, 60)).await.unwrap();
    let ended = stack.session(text(&session, "sessionId")).await;
    // 20 kWh at 0.49 cost 9.80 and take 12 minutes at 100 kW. Up to 20.010 kWh, 0.36 s more, round to the same cost.
    assert_eq!((text(&ended, "status"), text(&ended, "endReason")), ("INTERRUPTED", "COST_LIMIT"));
    assert_eq!(text(&ended, "cost"), "9.80");
    let minutes = ended["durationMinutes"].as_f64().unwrap();
    assert!((12.0..12.01).contains(&minutes), "{minutes}");
    let invoice = stack.invoice(text(&session, "sessionId")).await;
    assert_eq!((text(&invoice, "totalInclVat"), text(&invoice, "status")), ("9.80", "PAID"));
    let wallet = json!({ "action": "getWallet", "actor": { "userId": user, "role": "USER" } });
    assert_eq!(text(&stack.invoke("Billing", wallet.clone()).await.unwrap(), "balance"), "0.00");
    // A failed session costs nothing, and its hold ends.
    stack.top_up(&user, "5.00", "k-2").await.unwrap();
    let session = stack.start(&station, 2, &user, prepaid).await.unwrap();
    let held = stack.invoke("Billing", wallet.clone()).await.unwrap();
    assert_eq!((text(&held, "held"), &held["holds"][0]["sessionId"]), ("5.00", &session["sessionId"]));
    let fail = json!({ "action": "failSession", "actor": admin(), "sessionId": session["sessionId"] });
    stack.invoke("SessionService", fail).await.unwrap();
    eventually("the end of the hold", || async {
        let now = stack.invoke("Billing", wallet.clone()).await.unwrap();
        now["held"].is_null().then_some(now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_pays_an_open_invoice() {
    let stack = Stack::open().await;
    let (station, user) = (stack.station(1).await, unique("u"));
    let session = stack.start(&station, 1, &user, json!({})).await.unwrap();
    stack.tick(&station, minutes_after(&session, 18)).await.unwrap();
    stack.stop(text(&session, "sessionId"), &user).await.unwrap();
    let invoice = stack.invoice(text(&session, "sessionId")).await;
    assert_eq!((text(&invoice, "status"), text(&invoice, "due")), ("OPEN", "14.70"));
    told(&stack, "evoke.billing", &format!("{} of user {user} waits for 14.70 EUR", text(&invoice, "invoiceId"))).await;
    let wallet = stack.top_up(&user, "20.00", "k").await.unwrap();
    assert_eq!(text(&wallet, "balance"), "5.30");
    assert_eq!(text(&stack.invoice(text(&session, "sessionId")).await, "status"), "PAID");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_event_goes_to_quarantine_and_operators_are_notified() {
    let stack = Stack::open().await;
    let (session, sqs) = (unique("s"), aws_sdk_sqs::Client::new(&stack.config));
    let body = ended(&session, "u-1", 31.0);
    sqs.send_message().queue_url(stack.output("BillingQueueUrl")).message_body(&body).send().await.unwrap();
    let letter = quarantined(&stack, "ev-billing-dlq", &session).await;
    assert_eq!(letter.body, body);
    assert_eq!(letter.unbilled.unwrap().as_str(), session);
    let log = told(&stack, "evoke.billing", &format!("session {session} cannot be billed")).await;
    assert_eq!((text(&log, "level"), text(&log, "status")), ("CRITICAL", "OPEN"));
    assert!(text(&log, "message").contains("add up to energyKwh (31)"), "{log}");
    // Something that is not an event at all, sent to another queue.
    let marker = unique("poison");
    sqs.send_message().queue_url(stack.output("NotificationQueueUrl")).message_body(&marker).send().await.unwrap();
    let letter = quarantined(&stack, "ev-notification-dlq", &marker).await;
    assert!(letter.reason.contains("no event of ours"), "{}", letter.reason);
    assert_eq!(letter.replays, 0);
    replay_by_hand(&stack, &marker, &letter).await;
}

/// Sends a message back with the command line. The replay is recorded, and the message returns to quarantine because it
/// is still not an event.
async fn replay_by_hand(stack: &Stack, marker: &str, letter: &QuarantinedLetter) {
    let evoke = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/evoke");
    if !stack.is_local() || !std::path::Path::new(evoke).exists() {
        return;
    }
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(evoke).arg("dlq").args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["list", "--contains", marker]).await.contains(&letter.message_id));
    assert!(run(&["show", &letter.message_id]).await.contains(marker));
    let dry = run(&["replay", "--contains", marker, "--dry-run"]).await;
    assert!(dry.contains(&letter.message_id) && dry.contains("none sent"), "{dry}");
    let sent = run(&["replay", "--contains", marker, "--yes", "--by", "e2e"]).await;
    assert!(sent.contains("1 of 1 messages sent"), "{sent}");
    let s3 = aws_sdk_s3::Client::new(&stack.config);
    let bucket = stack.output("QuarantineBucket");
    let records = s3.list_objects_v2().bucket(bucket).prefix("replays/").send().await.unwrap();
    let record =
        records.contents().iter().filter_map(|object| object.key()).find(|key| key.contains(&letter.message_id));
    let record = s3.get_object().bucket(bucket).key(record.unwrap()).send().await.unwrap();
    let record: Value = serde_json::from_slice(&record.body.collect().await.unwrap().into_bytes()).unwrap();
    assert_eq!((text(&record, "who"), text(&record, "result")), ("e2e", "SENT"));
    let again = quarantined(stack, "ev-notification-dlq", marker).await;
    assert_ne!(again.message_id, letter.message_id);
    assert!(again.replays > 3, "the reconciler does not send it back by itself again: {}", again.replays);
}

/// Processes dead letters until a message of the queue that contains `what` is in quarantine, and returns it.
async fn quarantined(stack: &Stack, queue: &str, what: &str) -> QuarantinedLetter {
    let s3 = aws_sdk_s3::Client::new(&stack.config);
    let bucket = stack.output("QuarantineBucket");
    eventually("a quarantined letter", || async {
        stack.reconcile().await;
        let list = s3.list_objects_v2().bucket(bucket).prefix(format!("dead-letters/{queue}")).send().await.unwrap();
        for key in list.contents().iter().filter_map(|object| object.key()) {
            let object = s3.get_object().bucket(bucket).key(key).send().await.unwrap();
            let letter: QuarantinedLetter =
                serde_json::from_slice(&object.body.collect().await.unwrap().into_bytes()).unwrap();
            if letter.body.contains(what) {
                return Some(letter);
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_dead_letter_is_billed_after_all() {
    let stack = Stack::open().await;
    let (session, sqs) = (unique("s"), aws_sdk_sqs::Client::new(&stack.config));
    let body = ended(&session, &unique("u"), 30.0);
    let dead = stack.output("BillingDeadLetterQueueUrl");
    sqs.send_message().queue_url(dead).message_body(body).send().await.unwrap();
    stack.reconcile().await;
    let invoice = stack.invoice(&session).await;
    assert_eq!(text(&invoice, "totalInclVat"), "14.70");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_finds_an_ended_session_without_its_invoice() {
    let stack = Stack::open().await;
    let station = stack.station(1).await;
    let session = stack.start(&station, 1, &unique("u"), json!({})).await.unwrap();
    let id = text(&session, "sessionId");
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    let stopped = stack.stop(id, text(&session, "userId")).await.unwrap();
    stack.invoice(id).await;
    stack.lose_invoice(id, text(&session, "userId")).await;
    // Audit only the instant of its end: sessions of other tests may have ended just now, without an invoice yet.
    let found = eventually("the defect", || async {
        let audit = json!({ "from": stopped["endedAt"], "to": stopped["endedAt"] });
        let answer = stack.invoke("BillingAudit", audit).await.unwrap();
        let defects = answer["defects"].as_array().unwrap();
        defects.iter().find(|defect| text(defect, "subject") == id).cloned()
    })
    .await;
    assert_eq!(text(&found, "kind"), "SESSION_WITHOUT_INVOICE");
    let log = told(&stack, "billing_audit", id).await;
    assert_eq!(text(&log, "level"), "CRITICAL");
    // The repair: publish its end again, under the same event id.
    let again = json!({ "action": "republishEnd", "actor": admin(), "sessionId": id });
    stack.invoke("SessionService", again).await.unwrap();
    assert_eq!(text(&stack.invoice(id).await, "status"), "OPEN");
}
