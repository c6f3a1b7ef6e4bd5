use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::client::Endpoint;
use crate::error::list;
use crate::frame::{self, Frame};
use crate::{Authorization, GraphQlError, Subscription};

/// The WebSocket subprotocol of the API.
const SUBPROTOCOL: &str = "graphql-ws";
/// The maximum time until a connection is established and accepted, and until all subscriptions are in effect.
const PATIENCE: Duration = Duration::from_secs(30);
/// The size of the buffer that each connection has from its beginning, bytes. An update is smaller.
const READ_BUFFER: usize = 4 * 1024;

/// Why a connection has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It broke.
    Broken(String),
    /// The API refused the connection or one of its subscriptions.
    Refused(Vec<GraphQlError>),
}

impl End {
    /// Returns the reason as text.
    pub fn reason(&self) -> String {
        match self {
            Self::Broken(reason) => reason.clone(),
            Self::Refused(errors) => list(errors),
        }
    }
}

impl From<tungstenite::Error> for End {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(answer)
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status()) =>
            {
                let error_type = Some("UnauthorizedException".to_owned());
                let message = format!("the API answered {}", answer.status());
                Self::Refused(vec![GraphQlError { message, error_type, ..GraphQlError::default() }])
            }
            error => Self::Broken(error.to_string()),
        }
    }
}

/// A WebSocket that the API has accepted.
pub(crate) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The time without a message after which the connection has broken.
    silence: Duration,
}

impl Connection {
    /// Connects, and starts the subscriptions. They are in effect when the API has acknowledged each of them.
    pub async fn open(
        endpoint: &Endpoint,
        authorization: &Authorization,
        subscriptions: &[Subscription],
    ) -> Result<Self, End> {
        let connect = Box::pin(Self::connect(endpoint, authorization));
        let late = |_| End::Broken(format!("the connection was not accepted within {PATIENCE:?}"));
        let mut connection = timeout(PATIENCE, connect).await.map_err(late)??;
        for (id, subscription) in subscriptions.iter().enumerate() {
            connection.send(&frame::start(id, authorization, &endpoint.host, subscription)).await?;
        }
        Ok(connection)
    }

    async fn connect(endpoint: &Endpoint, authorization: &Authorization) -> Result<Self, End> {
        let uri = endpoint.realtime_url.parse::<Uri>().map_err(|error| End::Broken(error.to_string()))?;
        // Not in the query of the URL, which proxies log.
        let header = URL_SAFE_NO_PAD.encode(authorization.object(&endpoint.host).to_string());
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
        let request = request.with_sub_protocol(format!("header-{header}"));
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let (socket, _) = Box::pin(connect_async_with_config(request, Some(config), true)).await?;
        let mut connection = Self { socket, silence: PATIENCE };
        connection.send(&frame::init()).await?;
        loop {
            match connection.next().await? {
                Frame::ConnectionAck { payload } => {
                    connection.silence = Duration::from_millis(payload.connection_timeout_ms);
                    return Ok(connection);
                }
                Frame::ConnectionError { payload } | Frame::Error { payload } => {
                    return Err(End::Refused(payload.errors));
                }
                _ => {}
            }
        }
    }

    async fn send(&mut self, frame: &Value) -> Result<(), End> {
        Ok(self.socket.send(Message::text(frame.to_string())).await?)
    }

    /// Waits for the next message while the subscriptions are not yet in effect.
    pub async fn next_soon(&mut self) -> Result<Frame, End> {
        let late = |_| End::Broken(format!("a subscription was not acknowledged within {PATIENCE:?}"));
        timeout(PATIENCE, self.next()).await.map_err(late)?
    }

    /// Waits for the next message.
    ///
    /// The API sends one at least every minute. Without any message for as long as the API named, the connection has
    /// broken although neither side has closed it.
    pub async fn next(&mut self) -> Result<Frame, End> {
        loop {
            let silent = |_| End::Broken(format!("no message for {:?}", self.silence));
            let message = timeout(self.silence, self.socket.next()).await.map_err(silent)?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    let unreadable = |error| End::Broken(format!("a message cannot be read: {error}"));
                    return serde_json::from_str(&text).map_err(unreadable);
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(End::Broken(format!("closed by the API: {close}")));
                }
                // The library answers pings itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Message::Close(None))) | None => return Err(End::Broken("closed by the API".to_owned())),
            }
        }
    }
}
