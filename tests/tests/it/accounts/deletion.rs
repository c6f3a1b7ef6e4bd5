//! The deletion of an account, and its export.

use std::collections::HashMap;

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Person, Stack, admin, eventually, minutes_after, new_address, new_password, text};
use reqwest::Method;
use serde_json::{Value, json};

use super::{new_number, refused_by_oauth, vehicle};

/// Returns the items of a partition of the table of users.
async fn items(stack: &Stack, pk: String) -> Vec<HashMap<String, AttributeValue>> {
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.config);
    let query = dynamodb.query().table_name(stack.output("UsersTable")).consistent_read(true);
    let query = query.key_condition_expression("PK = :pk").expression_attribute_values(":pk", AttributeValue::S(pk));
    query.send().await.unwrap().items.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_deleted_when_its_user_owes_nothing() {
    let stack = Stack::open().await;
    let (station, number) = (stack.station(1).await, new_number());
    let person = Person::register_with(&stack, json!({ "vehicle": vehicle(&number) })).await;
    let session = person.start(&stack, &station).await.must_be(201);
    let id = text(&session, "sessionId");
    let refused = person.delete(&stack).await.must_be(409);
    assert!(text(&refused, "detail").contains(id), "{refused}");
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    person.stop(&stack, id).await.must_be(200);
    let invoice = stack.invoice(id).await;
    let refused = person.delete(&stack).await.must_be(409);
    assert!(text(&refused, "detail").contains(text(&invoice, "invoiceId")), "{refused}");
    let account = person.get(&stack, "/account").await.must_be(200);
    assert_eq!(text(&account, "status"), "ACTIVE", "a refused deletion changes nothing");

    stack.top_up(&person.user_id, "50.00", "k").await.unwrap();
    let deleted = person.delete(&stack).await.must_be(200);
    assert_eq!((text(&deleted, "userId"), text(&deleted, "status")), (person.user_id.as_str(), "DELETED"));
    assert_eq!(person.delete(&stack).await.must_be(200), deleted, "a repeated request gets the same answer");

    let unknown = Person { email: new_address(), ..person.clone() };
    let (gone, unknown) = (person.try_log_in(&stack).await, unknown.try_log_in(&stack).await);
    assert_eq!(gone.comparable(), unknown.comparable());
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    let find = Cognito::new(&stack.config).admin_get_user().user_pool_id(stack.output("UserPoolId"));
    let error = find.username(&person.user_id).send().await.unwrap_err().into_service_error();
    assert!(error.is_user_not_found_exception(), "{error:?}");
    nothing_brings_it_back(&stack, &person, &station).await;

    let left = items(&stack, format!("USER#{}", person.user_id)).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["status"], AttributeValue::S("DELETED".to_owned()));
    let row = format!("{left:?}");
    for personal in [&person.email, &person.name, &number] {
        assert!(!row.contains(personal.as_str()), "{row}");
    }
    let unique = items(&stack, format!("REGISTRATION#{}", number.replace(' ', ""))).await;
    assert!(unique.is_empty(), "{unique:?}");
    let invoice = stack.invoice(id).await;
    assert_eq!((text(&invoice, "status"), text(&invoice, "userId")), ("PAID", person.user_id.as_str()));

    // The address and the registration number are free again.
    let more = json!({ "email": person.email, "vehicle": vehicle(&number) });
    let next = Person::register_with(&stack, more).await;
    assert_ne!(next.user_id, person.user_id);
    stack.delete_account(&next.user_id).await;
}

/// Uses the access token of a deleted account, which is still valid, and lets the staff use its id.
async fn nothing_brings_it_back(stack: &Stack, person: &Person, station: &str) {
    let (account, export) = ("/account".to_owned(), "/account/export".to_owned());
    let (vehicles, tokens) =
        (format!("/customers/{}/vehicles", person.user_id), format!("/customers/{}/tokens", person.user_id));
    let token = json!({ "tokenId": "E2E", "type": "RFID" });
    let change = json!({ "currentPassword": person.password, "newPassword": new_password() });
    for (method, path, body, status) in [
        (Method::GET, account.clone(), None, 404),
        (Method::PATCH, account, Some(json!({ "name": "Ghost" })), 404),
        (Method::GET, export, None, 404),
        (Method::POST, vehicles, Some(json!({ "vehicle": vehicle(&new_number()) })), 404),
        (Method::POST, tokens, Some(token), 404),
        (Method::POST, "/auth/password".to_owned(), Some(change), 404),
        (Method::POST, "/auth/logout".to_owned(), Some(json!({})), 200),
    ] {
        let answer = stack.call(method.clone(), &path, &person.token, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    person.start(stack, station).await.must_be(403);
    for action in [
        json!({ "action": "getCustomer" }),
        json!({ "action": "blockUser", "reason": "late" }),
        json!({ "action": "unblockUser" }),
        json!({ "action": "setRole", "role": "ADMIN" }),
    ] {
        let mut command = action;
        command["actor"] = admin();
        command["userId"] = json!(person.user_id);
        let (kind, message) = stack.invoke("AccountService", command.clone()).await.unwrap_err();
        assert_eq!(kind, "NotFoundError", "{command}: {message}");
    }
    let top_up = stack.top_up(&person.user_id, "1.00", "late").await;
    assert_eq!(top_up.unwrap_err().0, "ForbiddenError");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_that_is_stored_of_a_user() {
    let stack = Stack::open().await;
    let (station, number) = (stack.station(1).await, new_number());
    let person = Person::register_with(&stack, json!({ "vehicle": vehicle(&number) })).await;
    let card = format!("CARD-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let token = json!({ "tokenId": card, "type": "RFID" });
    person.post(&stack, &format!("/customers/{}/tokens", person.user_id), token).await.must_be(201);
    stack.top_up(&person.user_id, "50.00", "k").await.unwrap();
    // The session is with the vehicle that was saved at the registration.
    let path = format!("/customers/{}/vehicles", person.user_id);
    let saved = person.get(&stack, &path).await.must_be(200);
    assert_eq!((saved["count"].as_u64(), text(&saved["items"][0], "registrationNumber")), (Some(1), number.as_str()));
    let start = json!({
        "stationId": station, "portId": "port-1", "vehicleId": saved["items"][0]["vehicleId"], "chargePercent": 20
    });
    let session = person.post(&stack, "/sessions", start).await.must_be(201);
    assert_eq!(session["vehicle"]["batteryCapacityKwh"], 52.0);
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    person.stop(&stack, text(&session, "sessionId")).await.must_be(200);
    let invoice = stack.invoice(text(&session, "sessionId")).await;

    let export = eventually("the export with the invoice", || async {
        let export = person.get(&stack, "/account/export").await.must_be(200);
        (!export["invoices"].as_array().unwrap().is_empty()).then_some(export)
    })
    .await;
    assert_eq!(text(&export["profile"], "email"), person.email);
    assert_eq!(export["vehicles"], saved["items"]);
    assert_eq!(text(&export["tokens"][0], "tokenId"), card);
    assert_eq!(export["sessions"][0]["sessionId"], session["sessionId"]);
    assert_eq!(export["invoices"][0]["invoiceId"], invoice["invoiceId"]);
    let ledger: Vec<&str> = export["ledger"].as_array().unwrap().iter().map(|entry| text(entry, "kind")).collect();
    assert_eq!(ledger, ["INVOICE", "TOP_UP"]);
    assert_eq!(export["more"], Value::Null, "a short export has one page");
    stack.delete_account(&person.user_id).await;
}
