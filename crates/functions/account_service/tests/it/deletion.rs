use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::id::{InvoiceId, SessionId};
use lambda_kit::Clock;
use serde_json::{Value, json};
use testkit::{Fault, invoke};

use crate::world::{AT_ONCE, PASSWORD, World, admin, error_type, support, text, user, vehicle};

#[tokio::test]
async fn a_deleted_account_leaves_the_bare_id() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    world.act("addVehicle", user(&id), json!({ "vehicle": vehicle("M-EV 42E") })).await.unwrap();
    world.act("addToken", user(&id), json!({ "tokenId": "T", "type": "RFID" })).await.unwrap();
    world.owed.lock().unwrap().sessions =
        (0..250).map(|number| json!({ "sessionId": format!("s-{number}"), "status": "COMPLETED" })).collect();
    world.owed.lock().unwrap().invoices = vec![json!({ "invoiceId": "i-1", "status": "PAID" })];
    let deleted = world.act("deleteAccount", user(&id), json!({})).await.unwrap();
    assert_eq!((&deleted["userId"], &deleted["status"]), (&json!(id), &json!("DELETED")));
    assert_eq!(world.act("deleteAccount", user(&id), json!({})).await.unwrap(), deleted, "twice");
    assert_eq!(world.written("USER_DELETED", &id), 1);

    let items = world.dynamodb.items("ev-users").await;
    assert_eq!(items.len(), 1);
    let everything = format!("{items:?}");
    assert!(!everything.contains("Ada") && !everything.contains("ada@"), "{everything}");
    assert_eq!((text(&items[0], "status"), world.cognito.users().await), ("DELETED", 0));
    // A token that still lives changes nothing, and the address is free again.
    for (action, more) in [
        ("getAccount", json!({})),
        ("updateAccount", json!({ "name": "Eve" })),
        ("exportAccount", json!({})),
        ("addVehicle", json!({ "vehicle": vehicle("B 1") })),
        ("addToken", json!({ "tokenId": "T", "type": "RFID" })),
        ("changePassword", json!({ "currentPassword": PASSWORD, "newPassword": "Battery-Staple-7" })),
    ] {
        assert_eq!(error_type(&world.act(action, user(&id), more).await), "NotFoundError", "{action}");
    }
    for action in ["blockUser", "unblockUser", "setRole", "getCustomer"] {
        let more = json!({ "userId": id, "reason": "r", "role": "ADMIN" });
        assert_eq!(error_type(&world.act(action, admin(), more).await), "NotFoundError", "{action}");
    }
    assert_eq!(error_type(&world.login("ada@example.com", PASSWORD).await), "ForbiddenError");
    assert_eq!(world.dynamodb.items("ev-users").await.len(), 1);
    assert_ne!(world.register("ada@example.com").await, id);
    world.act("addVehicle", user("u-1"), json!({ "vehicle": vehicle("M-EV 42E") })).await.unwrap();
}

/// A deletion may die before it gets to the user pool. The address is free all the same, and nothing tells that there
/// was an account.
#[tokio::test]
async fn a_deletion_is_completed_by_whoever_uses_the_address() {
    let world = World::new(AT_ONCE).await;
    let left = async |email: &str| {
        let id = world.register(email).await;
        let tombstone = world.dynamodb.client().put_item().table_name("ev-users");
        let tombstone = tombstone
            .item("PK", AttributeValue::S(format!("USER#{id}")))
            .item("SK", AttributeValue::S("METADATA".to_owned()))
            .item("status", AttributeValue::S("DELETED".to_owned()))
            .item("deletedAt", AttributeValue::S("2026-03-03T10:00:00.000Z".to_owned()))
            .item("version", AttributeValue::N("3".to_owned()));
        tombstone.send().await.unwrap();
        id
    };
    let unknown = world.login("eve@example.com", PASSWORD).await;
    left("ada@example.com").await;
    assert_eq!(world.login("ada@example.com", PASSWORD).await, unknown);
    assert_eq!(world.cognito.users().await, 0);

    let id = left("ada@example.com").await;
    assert_ne!(world.register("ada@example.com").await, id);
    assert_eq!(world.cognito.users().await, 1);
    let id = left("grace@example.com").await;
    let customer = json!({ "email": "grace@example.com", "name": "Grace" });
    assert_ne!(world.act("createCustomer", admin(), customer).await.unwrap()["userId"], json!(id));
    assert_eq!((world.status(&id).await.as_str(), world.cognito.users().await), ("DELETED", 2));
}

#[tokio::test]
async fn whoever_owes_something_stays() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let delete = || world.act("deleteAccount", user(&id), json!({}));
    let mut sessions: Vec<Value> =
        (0..150).map(|number| json!({ "sessionId": format!("s-{number}"), "status": "FAILED" })).collect();
    sessions[140]["status"] = json!("IN_PROGRESS");
    world.owed.lock().unwrap().sessions = sessions;
    let (kind, message) = delete().await.unwrap_err();
    assert!(kind == "ConflictError" && message.contains("s-140"), "{kind}: {message}");
    assert_eq!(world.status(&id).await, "ACTIVE");

    world.owed.lock().unwrap().sessions.clear();
    world.owed.lock().unwrap().invoices = vec![json!({ "invoiceId": "i-1", "status": "OPEN" })];
    let (kind, message) = delete().await.unwrap_err();
    assert!(kind == "ConflictError" && message.contains("i-1"), "{kind}: {message}");
    let block = json!({ "userId": id, "reason": "r" });
    world.act("blockUser", support(), block).await.unwrap();
    assert_eq!(error_type(&delete().await), "ConflictError");
    assert_eq!(world.status(&id).await, "BLOCKED", "a refused deletion lifts no block");

    world.owed.lock().unwrap().broken = true;
    assert_eq!(error_type(&delete().await), "UnavailableError");
    assert_eq!(world.status(&id).await, "BLOCKED");
    *world.owed.lock().unwrap() = crate::world::Owed::default();
    delete().await.unwrap();
}

/// The invoice of a session comes a moment after its end. If the user were gone by then, it would stay OPEN for ever.
#[tokio::test]
async fn whoever_has_just_charged_waits_for_the_invoice() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let delete = || world.act("deleteAccount", user(&id), json!({}));
    let ended = |status: &str, ago: Duration| {
        let sessions = vec![json!({ "sessionId": "s-1", "status": status, "endedAt": (Clock::SYSTEM.0)() - ago })];
        world.owed.lock().unwrap().sessions = sessions;
    };
    for status in ["COMPLETED", "INTERRUPTED"] {
        ended(status, Duration::from_secs(1));
        let (kind, message) = delete().await.unwrap_err();
        assert!(kind == "ConflictError" && message.contains("try again"), "{status}: {kind}: {message}");
        assert_eq!(world.status(&id).await, "ACTIVE");
    }
    let invoice = InvoiceId::of(&SessionId::new("s-1").unwrap());
    let issued = |status: &str| {
        world.owed.lock().unwrap().invoices = vec![json!({ "invoiceId": invoice, "status": status })];
    };
    issued("OPEN");
    let (kind, message) = delete().await.unwrap_err();
    assert!(kind == "ConflictError" && message.contains(invoice.as_str()), "{kind}: {message}");
    issued("PAID");
    delete().await.unwrap();
}

/// A session that is not billed, or was not billed in time, keeps nobody.
#[tokio::test]
async fn only_a_session_that_is_about_to_be_billed_delays_a_deletion() {
    let world = World::new(AT_ONCE).await;
    for (status, ago) in [("FAILED", Duration::ZERO), ("COMPLETED", Duration::from_mins(16))] {
        let email = format!("{status}@example.com").to_lowercase();
        let id = world.register(&email).await;
        let session = json!({ "sessionId": "s-1", "status": status, "endedAt": (Clock::SYSTEM.0)() - ago });
        world.owed.lock().unwrap().sessions = vec![session];
        assert_eq!(world.act("deleteAccount", user(&id), json!({})).await.unwrap()["status"], "DELETED", "{status}");
    }
}

/// A request that died after its first write leaves the user DELETING. The staff, or another attempt, ends that.
#[tokio::test]
async fn an_interrupted_deletion_is_no_dead_end() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let unblock = || world.act("unblockUser", support(), json!({ "userId": id }));
    interrupt_deletion(&world, &id).await;
    assert_eq!(unblock().await.unwrap()["status"], "ACTIVE");
    assert_eq!((world.status(&id).await.as_str(), world.outbox(&id).await), ("ACTIVE", Vec::new()));
    assert_eq!(error_type(&unblock().await), "ConflictError");

    world.act("blockUser", support(), json!({ "userId": id, "reason": "r" })).await.unwrap();
    interrupt_deletion(&world, &id).await;
    assert_eq!(unblock().await.unwrap()["status"], "BLOCKED", "the end of a deletion lifts no block");
    assert_eq!(unblock().await.unwrap()["status"], "ACTIVE");
    interrupt_deletion(&world, &id).await;
    assert_eq!(world.act("deleteAccount", user(&id), json!({})).await.unwrap()["status"], "DELETED");
}

/// An administrator is blocked and unblocked by administrators, also while a deletion is interrupted.
#[tokio::test]
async fn the_deletion_of_an_administrator_is_not_ended_by_support() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    world.act("setRole", admin(), json!({ "userId": id, "role": "ADMIN" })).await.unwrap();
    interrupt_deletion(&world, &id).await;
    let refused = world.act("unblockUser", support(), json!({ "userId": id })).await;
    assert_eq!((error_type(&refused), world.status(&id).await.as_str()), ("ForbiddenError", "DELETING"));
    assert_eq!(world.act("unblockUser", admin(), json!({ "userId": id })).await.unwrap()["status"], "ACTIVE");
}

/// Ends deletions at one call after the other, until one leaves the user DELETING.
async fn interrupt_deletion(world: &World, id: &str) {
    for call in 0..10 {
        world.http.plan(BTreeMap::from([(call, Fault::CrashAfter)]));
        let _ = world.http.survive(world.act("deleteAccount", user(id), json!({}))).await;
        world.http.plan(BTreeMap::new());
        if world.status(id).await == "DELETING" {
            return;
        }
    }
    panic!("the user never becomes DELETING");
}

#[tokio::test]
async fn an_export_has_everything_page_by_page() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    world.act("addVehicle", user(&id), json!({ "vehicle": vehicle("M-EV 42E") })).await.unwrap();
    world.act("addToken", user(&id), json!({ "tokenId": "T", "type": "RFID" })).await.unwrap();
    world.owed.lock().unwrap().sessions = (0..230).map(|number| json!({ "sessionId": number })).collect();
    world.owed.lock().unwrap().invoices = (0..101).map(|number| json!({ "invoiceId": number })).collect();
    world.owed.lock().unwrap().ledger = vec![json!({ "sequence": 1 })];
    let (mut asked, mut pages) = (json!({}), Vec::new());
    loop {
        let page = world.act("exportAccount", user(&id), asked).await.unwrap();
        asked = page["more"].clone();
        pages.push(page);
        if asked.is_null() {
            break;
        }
    }
    let counts = |list: &str| -> Vec<usize> { pages.iter().map(|page| page[list].as_array().unwrap().len()).collect() };
    assert_eq!(counts("sessions"), [100, 100, 30]);
    assert_eq!(counts("invoices"), [100, 1, 0]);
    assert_eq!(counts("ledger"), [1, 0, 0]);
    assert_eq!(pages[0]["profile"]["email"], "ada@example.com");
    assert_eq!((counts("vehicles")[0], counts("tokens")[0]), (1, 1));
}

/// What is stored of a user is the user's to know, also what the staff wrote.
#[tokio::test]
async fn an_export_has_the_reason_of_a_block() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let export = || world.act("exportAccount", user(&id), json!({}));
    assert_eq!(export().await.unwrap()["profile"].get("blockedReason"), None);
    world.act("blockUser", support(), json!({ "userId": id, "reason": "unpaid invoices" })).await.unwrap();
    assert_eq!(export().await.unwrap()["profile"]["blockedReason"], "unpaid invoices");
}

/// The event of a deletion deletes the user in the user pool, if the request did not get that far.
#[tokio::test]
async fn the_event_of_a_deletion_completes_it() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let event = |kind: &str, more: Value| {
        let mut detail = json!({
            "eventType": kind, "eventId": "0198e2f4-0000-7000-8000-000000000000", "schemaVersion": 1,
            "occurredAt": "2026-03-03T10:00:00Z", "correlationId": "c", "userId": id
        });
        detail.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        json!({
            "version": "0", "id": "e", "detail-type": kind, "source": "evoke.accounts", "account": "123456789012",
            "time": "2026-03-03T10:00:00Z", "region": "eu-central-1", "resources": [], "detail": detail
        })
    };
    let deleted = event("USER_DELETED", json!({ "deletedAt": "2026-03-03T10:00:00Z" }));
    for was_there in [true, false] {
        let answer = invoke(&world.accounts, deleted.clone()).await.unwrap();
        assert_eq!(answer, json!({ "userId": id, "deleted": was_there }));
        assert_eq!(world.cognito.users().await, 0);
    }
    let other = event("USER_UNBLOCKED", json!({ "unblockedAt": "2026-03-03T10:00:00Z" }));
    assert_eq!(error_type(&invoke(&world.accounts, other).await), "ValidationError");
}
