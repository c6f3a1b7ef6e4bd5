use lambda_kit::{Door, Function, Payload};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};

/// The outcome of a direct invocation: its JSON, or the type and message of the error.
pub type Outcome = Result<Value, (String, String)>;

/// Invokes a function through its [`Door`], as Lambda would.
///
/// # Errors
/// The type and message of the function error.
pub async fn invoke<F: Function>(door: &Door<F>, payload: Value) -> Outcome {
    invoke_raw(door, payload.to_string().as_bytes()).await
}

/// Invokes a function with bytes that may not be JSON. They are parsed as the Lambda runtime parses a payload.
///
/// # Errors
/// The type and message of the function error.
pub async fn invoke_raw<F: Function>(door: &Door<F>, payload: &[u8]) -> Outcome {
    let payload: Payload = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(payload))
        .expect("a payload never fails to be read");
    let mut context = Context::default();
    context.request_id = uuid::Uuid::new_v4().to_string();
    let result = door.invoke(LambdaEvent::new(payload, context)).await;
    result.map_err(|error| (error.error_type, error.error_message))
}

/// Builds an HTTP API event (payload format 2.0) of a Cognito user in these groups. An empty `sub` means no token.
#[must_use]
pub fn http_event(
    route: &str,
    path: &[(&str, &str)],
    query: &[(&str, &str)],
    sub: &str,
    groups: &str,
    body: &str,
) -> Value {
    let object = |pairs: &[(&str, &str)]| -> Value {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    let (method, raw_path) = route.split_once(' ').unwrap_or((route, "/"));
    let mut context = json!({
        "accountId": "123456789012", "apiId": "api", "domainName": "example.com", "domainPrefix": "api",
        "http": { "method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
        "requestId": "request-1", "routeKey": route, "stage": "$default",
        "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64
    });
    if !sub.is_empty() {
        context["authorizer"] =
            json!({ "jwt": { "claims": { "sub": sub, "cognito:groups": groups }, "scopes": null } });
    }
    json!({
        "version": "2.0", "routeKey": route, "rawPath": raw_path, "rawQueryString": "",
        "headers": { "content-type": "application/json", "x-correlation-id": "correlation-1" },
        "queryStringParameters": object(query), "pathParameters": object(path),
        "requestContext": context, "body": body, "isBase64Encoded": false
    })
}

/// Builds the payload that the resolver of a GraphQL field sends. The identity is null for a caller with the API key.
#[must_use]
pub fn graphql_event(field: &str, arguments: &Value, identity: &Value) -> Value {
    json!({ "field": field, "arguments": arguments, "identity": identity, "correlationId": "correlation-1" })
}

/// Builds the identity of a Cognito user as AppSync passes it on: with an access token, these groups and these scopes,
/// such as `evoke/stations:read`.
#[must_use]
pub fn identity(sub: &str, groups: &[&str], scopes: &[String]) -> Value {
    json!({
        "sub": sub, "issuer": "https://cognito-idp.eu-central-1.amazonaws.com/pool", "username": sub,
        "sourceIp": ["192.0.2.1"], "defaultAuthStrategy": "ALLOW", "groups": groups,
        "claims": {
            "sub": sub, "username": sub, "token_use": "access", "client_id": "client", "cognito:groups": groups,
            "scope": scopes.join(" ")
        }
    })
}

/// Builds an SQS batch of these bodies. The message ids are `m-0`, `m-1` ….
#[must_use]
pub fn sqs_event(bodies: &[String]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(index, body)| {
            json!({
                "messageId": format!("m-{index}"), "receiptHandle": "r", "body": body, "attributes": {},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:q", "awsRegion": "eu-central-1"
            })
        })
        .collect();
    json!({ "Records": records })
}

/// Builds a batch of a table's stream from the sequence number and the outbox of each record.
#[must_use]
pub fn stream_event(records: &[(String, String)]) -> Value {
    let records: Vec<Value> = records
        .iter()
        .map(|(sequence, outbox)| {
            json!({
                "eventID": sequence, "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
                "awsRegion": "eu-central-1", "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/t/stream/s",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1_700_000_000, "SequenceNumber": sequence, "SizeBytes": 1,
                    "StreamViewType": "NEW_IMAGE", "Keys": { "PK": { "S": sequence }, "SK": { "S": "METADATA" } },
                    "NewImage": { "PK": { "S": sequence }, "SK": { "S": "METADATA" }, "outbox": { "S": outbox } }
                }
            })
        })
        .collect();
    json!({ "Records": records })
}
