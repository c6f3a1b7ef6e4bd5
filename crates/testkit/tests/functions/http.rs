//! HTTP requests: the role of a caller, and problem documents.

use lambda_kit::{Clock, Door};
use notification_service::NotificationService;
use serde_json::{Value, json};
use station_service::StationService;
use testkit::{EmbeddedDynamoDb, http_event, invoke, low_below, no_redelivery};

use crate::charging::station_cases;
use crate::{nowhere, topics};

#[tokio::test]
async fn a_role_requires_a_group_of_exactly_that_name() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let logs =
        NotificationService::new(dynamodb.error_logs(), topics(&nowhere()), low_below("0"), None, no_redelivery());
    let door = Door::new(logs, Clock::SYSTEM);
    let status = async |groups: &str| {
        let answer = invoke(&door, http_event("GET /error-logs", &[], &[], "u-1", groups, "")).await.unwrap();
        answer["statusCode"].as_u64().unwrap()
    };
    for staff in ["ADMIN", "[ADMIN]", "[TECH_SUPPORT]", "[drivers ADMIN]", "[drivers TECH_SUPPORT fleet-7]"] {
        assert_eq!(status(staff).await, 200, "{staff}");
    }
    for user in [
        "",
        "[]",
        "USER",
        "[ADMIN-readonly]",
        "[regional.ADMIN]",
        "[not:ADMIN]",
        "[no,ADMIN]",
        "[ADMIN/emea TECH_SUPPORT-2]",
        "[admin]",
        "[\"ADMIN\"]",
        "[\"drivers\",\"ADMIN\"]",
        "[\"ADMIN-readonly\"]",
        "[\"not ADMIN\"]",
        "ADMIN-readonly",
        "[[ADMIN]]",
        "[{ADMIN}]",
    ] {
        assert_eq!(status(user).await, 403, "{user}");
    }
}

/// API Gateway refuses an id token for its lack of scopes. The door refuses it as well.
#[tokio::test]
async fn a_token_must_be_an_access_token() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    for (kind, expected) in [("access", 200), ("id", 403), ("refresh", 403), ("", 403)] {
        let mut event = http_event("GET /stations", &[], &[], "u-1", "[ADMIN]", "");
        event["requestContext"]["authorizer"]["jwt"]["claims"]["token_use"] = json!(kind);
        assert_eq!(invoke(&door, event).await.unwrap()["statusCode"], expected, "{kind}");
    }
}

#[tokio::test]
async fn http_requests_get_problem_documents() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
    let post = |body: &str| http_event("POST /stations", &[], &[], "u-1", "[ADMIN]", body);
    let mut events: Vec<Value> =
        ["", "{", "[1]", "{\"powerKw\": NaN}", "nonsense"].iter().map(|body| post(body)).collect();
    events.push(post(&format!("{}1{}", "[".repeat(1000), "]".repeat(1000))));
    for base64 in ["//79", "%%%"] {
        let mut event = post(base64); // bytes that are not UTF-8; not base64 at all
        event["isBase64Encoded"] = json!(true);
        events.push(event);
    }
    for event in events {
        let response = invoke(&door, event).await.unwrap();
        assert_eq!(response["statusCode"], 400, "{response}");
        assert_eq!(response["headers"]["content-type"], "application/problem+json");
        assert_eq!(response["headers"]["x-correlation-id"], "correlation-1");
        let problem: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!((&problem["code"], &problem["correlationId"]), (&json!("ValidationError"), &json!("correlation-1")));
        assert!(!problem["errors"].as_array().unwrap().is_empty());
    }
    // The list contains every invalid field of an empty request.
    let response = invoke(&door, post("{}")).await.unwrap();
    let problem: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    for field in ["name", "address", "latitude", "longitude", "powerKw"] {
        assert!(fields.contains(&field), "{fields:?}");
    }
    // The actor comes from the token, whatever the body says.
    let mut body = station_cases().remove(0).2;
    body["actor"] = json!({ "userId": "boss", "role": "ADMIN" });
    let event = http_event("POST /stations", &[], &[], "u-1", "", &body.to_string());
    assert_eq!(invoke(&door, event).await.unwrap()["statusCode"], 403);
    // A number in a query string is parsed as a number; anything else is refused.
    let list = |limit: &str| http_event("GET /stations", &[], &[("limit", limit)], "u-1", "", "");
    assert_eq!(invoke(&door, list("5")).await.unwrap()["statusCode"], 200);
    for limit in ["0", "101", "five", "1.5", "-1", ""] {
        assert_eq!(invoke(&door, list(limit)).await.unwrap()["statusCode"], 400, "limit {limit}");
    }
    assert_eq!(dynamodb.items("ev-stations").await.len(), 0);
}
