//! The client against a server whose messages a test chooses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::sync::{Arc, Mutex};
use std::time::Duration;

use appsync::{AppSync, Authorization, Credentials, Event, GraphQlError, Live, Subscription};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

const DOCUMENT: &str = "subscription W { walletChanged { balance } }";
/// The maximum time until something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time without a message that the server allows, ms.
const LONG: u64 = 300_000;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing happened")
}

/// The API: a test accepts its connections one by one.
struct Api {
    listener: TcpListener,
    host: String,
}

/// The API's end of a connection.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// The authorization of the connection.
    authorization: Value,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        Self { listener, host }
    }

    fn client(&self) -> AppSync {
        AppSync::new(&format!("http://{}/graphql", self.host), &format!("ws://{}/realtime", self.host)).unwrap()
    }

    /// Subscribes once with these credentials.
    fn subscribe(&self, credentials: impl Credentials + 'static) -> Live<Value> {
        let subscriptions = vec![Subscription::new(DOCUMENT, json!({}))];
        self.client().subscribe(Arc::new(credentials), subscriptions)
    }

    #[allow(clippy::result_large_err)] // the form of the callback is the library's
    async fn accept(&self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        let mut protocols = String::new();
        let answer = |request: &Request, mut response: Response| {
            request.headers()["sec-websocket-protocol"].to_str().unwrap().clone_into(&mut protocols);
            response.headers_mut().insert("sec-websocket-protocol", "graphql-ws".parse().unwrap());
            Ok(response)
        };
        let socket = soon(accept_hdr_async(stream, answer)).await.unwrap();
        let header = protocols.strip_prefix("graphql-ws, header-").expect("the protocol, and the authorization");
        let authorization = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        let mut peer = Peer { socket, authorization };
        assert_eq!(peer.receive().await, json!({ "type": "connection_init" }));
        peer
    }

    /// Accepts a connection with one subscription, and returns it with the message that started the subscription.
    async fn accept_subscription(&self) -> (Peer, Value) {
        let mut peer = self.accept().await;
        peer.acknowledge(LONG).await;
        let start = peer.receive().await;
        peer.send(json!({ "type": "start_ack", "id": start["id"] })).await;
        (peer, start)
    }
}

impl Peer {
    async fn receive(&mut self) -> Value {
        let message = soon(self.socket.next()).await.expect("a message").unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn acknowledge(&mut self, timeout: u64) {
        self.send(json!({ "type": "connection_ack", "payload": { "connectionTimeoutMs": timeout } })).await;
    }

    async fn refuse(&mut self, id: Option<&str>, kind: &str, code: u16) {
        let errors = json!([{ "errorType": kind, "errorCode": code, "message": "no" }]);
        let frame = match id {
            Some(id) => json!({ "type": "error", "id": id, "payload": { "errors": errors } }),
            None => json!({ "type": "connection_error", "payload": { "errors": errors } }),
        };
        self.send(frame).await;
    }

    async fn update(&mut self, data: &Value) {
        self.send(json!({ "type": "data", "id": "0", "payload": { "data": data } })).await;
    }
}

fn token(text: &str) -> Authorization {
    Authorization::Token(text.to_owned())
}

async fn next(live: &mut Live<Value>) -> Event<Value> {
    soon(live.next()).await.expect("an event")
}

/// Asserts that the next event interrupts the subscription, and returns the reason.
async fn interrupted(live: &mut Live<Value>) -> String {
    match next(live).await {
        Event::Interrupted(reason) => reason,
        event => panic!("{event:?}"),
    }
}

/// Asserts that the subscription ends because the API refuses it, and returns the errors.
async fn refused(live: &mut Live<Value>) -> Vec<GraphQlError> {
    let Event::Refused(errors) = next(live).await else { panic!("not refused") };
    assert!(soon(live.next()).await.is_none(), "it goes on");
    errors
}

/// Credentials that return the prepared authorizations of a test, and that remember which of them were refused.
#[derive(Clone, Default)]
struct Prepared {
    answers: Arc<Mutex<Vec<anyhow::Result<Option<Authorization>>>>>,
    refused: Arc<Mutex<Vec<Option<Authorization>>>>,
}

impl Prepared {
    fn new(answers: Vec<anyhow::Result<Option<Authorization>>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers)), refused: Arc::default() }
    }

    fn refused(&self) -> Vec<Option<Authorization>> {
        self.refused.lock().unwrap().clone()
    }
}

impl Credentials for Prepared {
    fn authorization<'a>(
        &'a self,
        refused: Option<&'a Authorization>,
    ) -> BoxFuture<'a, anyhow::Result<Option<Authorization>>> {
        self.refused.lock().unwrap().push(refused.cloned());
        let answer = self.answers.lock().unwrap().remove(0);
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn updates_arrive_after_the_subscription_is_in_effect() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    let (mut peer, start) = api.accept_subscription().await;
    let authorization = json!({ "host": api.host, "Authorization": "t" });
    assert_eq!(peer.authorization, authorization);
    assert_eq!(start["payload"]["extensions"]["authorization"], authorization);
    assert_eq!(next(&mut live).await, Event::Started);
    peer.send(json!({ "type": "ka" })).await;
    peer.update(&json!({ "walletChanged": { "balance": "1.00" } })).await;
    assert_eq!(next(&mut live).await, Event::Update(json!({ "walletChanged": { "balance": "1.00" } })));
}

#[tokio::test]
async fn several_subscriptions_share_a_connection_and_start_together() {
    let api = Api::start().await;
    let subscriptions = vec![Subscription::new(DOCUMENT, json!({})), Subscription::new(DOCUMENT, json!({ "a": 1 }))];
    let mut live: Live<Value> = api.client().subscribe(Arc::new(Authorization::ApiKey("k".to_owned())), subscriptions);
    let mut peer = api.accept().await;
    assert_eq!(peer.authorization, json!({ "host": api.host, "x-api-key": "k" }));
    peer.acknowledge(LONG).await;
    let (first, second) = (peer.receive().await, peer.receive().await);
    assert_ne!(first["id"], second["id"]);
    peer.send(json!({ "type": "start_ack", "id": second["id"] })).await;
    // An update of the one may come before the other is in effect.
    peer.update(&json!({ "walletChanged": 1 })).await;
    peer.send(json!({ "type": "start_ack", "id": first["id"] })).await;
    assert_eq!(next(&mut live).await, Event::Update(json!({ "walletChanged": 1 })));
    assert_eq!(next(&mut live).await, Event::Started);
}

#[tokio::test]
async fn a_broken_connection_is_established_again() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    for _ in 0..3 {
        let (mut peer, _) = api.accept_subscription().await;
        assert_eq!(next(&mut live).await, Event::Started);
        peer.update(&json!({ "walletChanged": 1 })).await;
        assert_eq!(next(&mut live).await, Event::Update(json!({ "walletChanged": 1 })));
        drop(peer);
        interrupted(&mut live).await;
    }
}

#[tokio::test]
async fn a_subscription_that_the_api_completes_is_started_again() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    let (mut peer, start) = api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
    peer.send(json!({ "type": "complete", "id": start["id"] })).await;
    interrupted(&mut live).await;
    api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
}

#[tokio::test]
async fn a_connection_without_keep_alive_messages_has_broken() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    let mut silent = api.accept().await;
    silent.acknowledge(100).await;
    let start = silent.receive().await;
    silent.send(json!({ "type": "start_ack", "id": start["id"] })).await;
    assert_eq!(next(&mut live).await, Event::Started);
    let reason = interrupted(&mut live).await;
    assert!(reason.contains("no message for 100ms"), "{reason}");
    api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
}

#[tokio::test]
async fn a_refused_subscription_ends() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    let mut peer = api.accept().await;
    peer.acknowledge(LONG).await;
    let start = peer.receive().await;
    peer.refuse(start["id"].as_str(), "ForbiddenError", 403).await;
    let errors = refused(&mut live).await;
    assert_eq!(errors[0].error_type.as_deref(), Some("ForbiddenError"));
    assert_eq!(errors[0].to_string(), "ForbiddenError: no");
}

#[tokio::test]
async fn an_authorization_that_cannot_be_renewed_ends_the_subscription() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    api.accept().await.refuse(None, "UnauthorizedException", 401).await;
    interrupted(&mut live).await;
    assert_eq!(refused(&mut live).await[0].error_type.as_deref(), Some("UnauthorizedException"));
}

#[tokio::test]
async fn a_refused_authorization_is_renewed_once() {
    let api = Api::start().await;
    let credentials = Prepared::new(["old", "new", "newer"].map(|text| anyhow::Ok(Some(token(text)))).into());
    let mut live = api.subscribe(credentials.clone());
    let (mut peer, start) = api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
    // The token expires while the subscription runs.
    peer.refuse(start["id"].as_str(), "UnauthorizedException", 401).await;
    interrupted(&mut live).await;
    let (mut peer, start) = api.accept_subscription().await;
    assert_eq!(start["payload"]["extensions"]["authorization"]["Authorization"], "new");
    assert_eq!(next(&mut live).await, Event::Started);
    // The user is blocked: a new token is refused as well.
    peer.refuse(start["id"].as_str(), "UnauthorizedException", 401).await;
    interrupted(&mut live).await;
    api.accept().await.refuse(None, "UnauthorizedException", 401).await;
    refused(&mut live).await;
    assert_eq!(credentials.refused(), [None, Some(token("old")), Some(token("new"))]);
}

#[tokio::test]
async fn credentials_that_fail_are_asked_again_later() {
    let api = Api::start().await;
    let mut live = api.subscribe(Prepared::new(vec![Err(anyhow::anyhow!("no network")), Ok(Some(token("t")))]));
    assert_eq!(interrupted(&mut live).await, "no network");
    api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
}

#[tokio::test]
async fn a_temporary_error_does_not_end_the_subscription() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    api.accept().await.refuse(None, "InternalFailure", 500).await;
    interrupted(&mut live).await;
    let mut peer = api.accept().await;
    peer.acknowledge(LONG).await;
    let start = peer.receive().await;
    peer.refuse(start["id"].as_str(), "LimitExceededError", 400).await;
    interrupted(&mut live).await;
    api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
}

#[tokio::test]
async fn an_update_that_cannot_be_read_is_reported_and_the_others_go_on() {
    let api = Api::start().await;
    let subscriptions = vec![Subscription::new(DOCUMENT, json!({}))];
    let mut live: Live<Vec<u32>> = api.client().subscribe(Arc::new(token("t")), subscriptions);
    let (mut peer, _) = api.accept_subscription().await;
    assert_eq!(soon(live.next()).await, Some(Event::Started));
    peer.update(&json!({ "walletChanged": 1 })).await;
    assert!(matches!(soon(live.next()).await, Some(Event::Unreadable(_))));
    let errors = json!([{ "message": "Cannot return null for non-nullable type" }]);
    peer.send(json!({ "type": "data", "id": "0", "payload": { "data": null, "errors": errors } })).await;
    let expected = Event::Unreadable("Cannot return null for non-nullable type".to_owned());
    assert_eq!(soon(live.next()).await, Some(expected));
    peer.update(&json!([1, 2])).await;
    assert_eq!(soon(live.next()).await, Some(Event::Update(vec![1, 2])));
}

#[tokio::test]
async fn the_connection_is_closed_when_the_reader_is_dropped() {
    let api = Api::start().await;
    let mut live = api.subscribe(token("t"));
    let (mut peer, _) = api.accept_subscription().await;
    assert_eq!(next(&mut live).await, Event::Started);
    drop(live);
    let end = soon(peer.socket.next()).await;
    assert!(matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))), "{end:?}");
}

/// Serves queries: answers each with `status` and `body`, unless the authorization or the document is missing.
async fn serve(status: u16, body: Value) -> AppSync {
    let handle = move |headers: HeaderMap, request: String| {
        let body = body.clone();
        async move {
            let request: Value = serde_json::from_str(&request).unwrap();
            assert_eq!((&request["query"], &request["variables"]), (&json!("{ x }"), &json!({ "a": 1 })));
            assert_eq!(headers["authorization"], "t");
            (StatusCode::from_u16(status).unwrap(), body.to_string())
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/graphql", post(handle));
    tokio::spawn(async move { axum::serve(listener, router).await });
    AppSync::new(&format!("http://{address}/graphql"), "ws://unused").unwrap()
}

#[tokio::test]
async fn a_query_returns_a_result_or_typed_errors() {
    let query = async |api: &AppSync| api.call::<u32>(&token("t"), "x", "{ x }", &json!({ "a": 1 })).await;
    let api = serve(200, json!({ "data": { "x": 3 } })).await;
    assert_eq!(query(&api).await.unwrap(), 3);
    assert!(matches!(
        api.call::<String>(&token("t"), "x", "{ x }", &json!({ "a": 1 })).await,
        Err(appsync::Error::Unexpected(_))
    ));

    let info = json!({ "correlationId": "c-1", "errors": [{ "field": "amount", "message": "is negative" }] });
    let error = json!({ "message": "not valid", "errorType": "ValidationError", "errorInfo": info, "path": ["x"] });
    let refused = query(&serve(200, json!({ "data": { "x": null }, "errors": [error] })).await).await.unwrap_err();
    assert_eq!(refused.kind(), Some("ValidationError"));
    let appsync::Error::Refused(errors) = refused else { panic!("{refused:?}") };
    assert_eq!((&errors[0].error_info, &errors[0].path), (&info, &json!(["x"])));

    let denied = json!({ "errors": [{ "errorType": "UnauthorizedException", "message": "Token has expired." }] });
    let denied = query(&serve(401, denied).await).await.unwrap_err();
    assert_eq!(denied.to_string(), "UnauthorizedException: Token has expired.");

    let other = query(&serve(502, json!("bad gateway")).await).await.unwrap_err();
    assert!(other.to_string().contains("502"), "{other}");
    assert_eq!(other.kind(), None);
}
