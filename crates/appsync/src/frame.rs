//! The messages of the real-time protocol.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Authorization, GraphQlError, Subscription};

/// A message of the API.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Frame {
    /// The API accepted the connection.
    ConnectionAck { payload: Acknowledgement },
    /// The API refused the connection.
    ConnectionError { payload: Failure },
    /// The connection is alive.
    Ka,
    /// A subscription is in effect.
    StartAck,
    /// An update.
    Data { payload: Data },
    /// The API refused a subscription, or has ended it.
    Error { payload: Failure },
    /// A subscription has ended.
    Complete,
    /// A message of a type that is not known.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Acknowledgement {
    /// The time without a message after which the connection has broken, ms.
    pub connection_timeout_ms: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Failure {
    #[serde(default)]
    pub errors: Vec<GraphQlError>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Data {
    #[serde(default)]
    pub data: Value,
    #[serde(default)]
    pub errors: Vec<GraphQlError>,
}

/// Returns the message that opens a connection.
pub(crate) fn init() -> Value {
    json!({ "type": "connection_init" })
}

/// Returns the message that starts a subscription under this id.
pub(crate) fn start(id: usize, authorization: &Authorization, host: &str, subscription: &Subscription) -> Value {
    let data = json!({ "query": subscription.document, "variables": subscription.variables }).to_string();
    json!({
        "id": id.to_string(),
        "type": "start",
        "payload": { "data": data, "extensions": { "authorization": authorization.object(host) } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(frame: Value) -> Frame {
        serde_json::from_value(frame).unwrap()
    }

    #[test]
    fn messages_are_read_as_the_documentation_of_aws_shows_them() {
        let acknowledged = parse(json!({ "type": "connection_ack", "payload": { "connectionTimeoutMs": 300_000 } }));
        assert_eq!(acknowledged, Frame::ConnectionAck { payload: Acknowledgement { connection_timeout_ms: 300_000 } });
        assert_eq!(parse(json!({ "type": "ka" })), Frame::Ka);
        assert_eq!(parse(json!({ "type": "start_ack", "id": "0" })), Frame::StartAck);
        assert_eq!(parse(json!({ "type": "complete", "id": "0" })), Frame::Complete);
        assert_eq!(parse(json!({ "type": "something_new", "payload": 1 })), Frame::Unknown);
        let data = parse(json!({ "type": "data", "id": "0", "payload": { "data": { "walletChanged": { "x": 1 } } } }));
        let expected = Data { data: json!({ "walletChanged": { "x": 1 } }), errors: vec![] };
        assert_eq!(data, Frame::Data { payload: expected });
        for kind in ["connection_error", "error"] {
            let errors = json!([{ "errorType": "UnauthorizedException", "errorCode": 401 }]);
            let frame = parse(json!({ "type": kind, "payload": { "errors": errors } }));
            let (Frame::ConnectionError { payload } | Frame::Error { payload }) = frame else {
                panic!("{frame:?}");
            };
            assert!(payload.errors[0].is_unauthorized(), "{payload:?}");
        }
    }

    #[test]
    fn a_subscription_starts_with_its_own_authorization() {
        let subscription = Subscription::new("subscription S { operatorAlert { logId } }", json!({ "a": 1 }));
        let frame = start(3, &Authorization::ApiKey("key".to_owned()), "host:1", &subscription);
        assert_eq!((&frame["id"], &frame["type"]), (&json!("3"), &json!("start")));
        let authorization = &frame["payload"]["extensions"]["authorization"];
        assert_eq!(authorization, &json!({ "host": "host:1", "x-api-key": "key" }));
        let data: Value = serde_json::from_str(frame["payload"]["data"].as_str().unwrap()).unwrap();
        assert_eq!(data, json!({ "query": "subscription S { operatorAlert { logId } }", "variables": { "a": 1 } }));
    }
}
