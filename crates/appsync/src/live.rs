use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::client::Endpoint;
use crate::connection::{Connection, End};
use crate::error::list;
use crate::frame::{Data, Frame};
use crate::{Authorization, Credentials, GraphQlError, Subscription};

/// The pause after the first failure. Each further failure doubles the pause. A random part keeps the clients of a
/// broken API from connecting all at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, without the random part.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The number of events that wait for a slow reader before the connection waits for it too.
const WAITING: usize = 1024;

/// An event of running subscriptions.
#[derive(Debug, PartialEq)]
pub enum Event<T> {
    /// All subscriptions are in effect. There are no updates of earlier changes: read the current values now, by a
    /// query.
    Started,
    /// An update. Updates may come twice and in any order, so ignore an update that is older than the known values.
    Update(T),
    /// An update cannot be read, for this reason: read the current values by a query.
    Unreadable(String),
    /// The connection has ended, for this reason. The client connects again, and then sends [`Event::Started`].
    Interrupted(String),
    /// The API refuses a subscription, or there is no new authorization. This is the last event.
    Refused(Vec<GraphQlError>),
}

/// The events of running subscriptions. The subscriptions end when this value is dropped.
#[derive(Debug)]
pub struct Live<T> {
    events: mpsc::Receiver<Event<T>>,
}

impl<T> Stream for Live<T> {
    type Item = Event<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event<T>>> {
        self.get_mut().events.poll_recv(context)
    }
}

/// Starts subscriptions.
pub(crate) fn start<T>(
    endpoint: Endpoint,
    credentials: Arc<dyn Credentials>,
    subscriptions: Vec<Subscription>,
) -> Live<T>
where
    T: DeserializeOwned + Send + 'static,
{
    let (sender, events) = mpsc::channel(WAITING);
    let hung_up = sender.clone();
    let connections = Connections { endpoint, credentials, subscriptions, events: sender, update: PhantomData };
    tokio::spawn(async move {
        tokio::select! {
            () = connections.run() => {}
            () = hung_up.closed() => {}
        }
    });
    Live { events }
}

/// The connections of subscriptions, one after the other.
struct Connections<T> {
    endpoint: Endpoint,
    credentials: Arc<dyn Credentials>,
    subscriptions: Vec<Subscription>,
    events: mpsc::Sender<Event<T>>,
    update: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Connections<T> {
    async fn run(&self) {
        let mut pauses = pauses();
        // The last authorization, if the API refused it, and what the API said.
        let mut refused: Option<(Authorization, Vec<GraphQlError>)> = None;
        loop {
            let last = refused.as_ref().map(|(authorization, _)| authorization);
            let offered = self.credentials.authorization(last).await;
            let authorization = match offered {
                Ok(Some(authorization)) => authorization,
                Ok(None) => {
                    let errors = refused.map(|(_, errors)| errors).unwrap_or_default();
                    return self.tell(Event::Refused(errors)).await;
                }
                Err(error) => {
                    self.tell(Event::Interrupted(format!("{error:#}"))).await;
                    wait(&mut pauses).await;
                    continue;
                }
            };
            let mut has_started = false;
            let end = self.follow(&authorization, &mut has_started).await;
            if has_started {
                (pauses, refused) = (self::pauses(), None);
            }
            match end {
                End::Refused(errors) if errors.iter().any(GraphQlError::is_unauthorized) => {
                    if refused.is_some() {
                        // A new authorization is refused as well.
                        return self.tell(Event::Refused(errors)).await;
                    }
                    self.tell(Event::Interrupted(list(&errors))).await;
                    refused = Some((authorization, errors));
                }
                End::Refused(errors) if !errors.iter().all(GraphQlError::is_temporary) => {
                    return self.tell(Event::Refused(errors)).await;
                }
                end => {
                    self.tell(Event::Interrupted(end.reason())).await;
                    wait(&mut pauses).await;
                }
            }
        }
    }

    /// Follows the subscriptions on one connection until it ends.
    async fn follow(&self, authorization: &Authorization, has_started: &mut bool) -> End {
        match self.events_of_one(authorization, has_started).await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn events_of_one(&self, authorization: &Authorization, has_started: &mut bool) -> Result<Infallible, End> {
        let mut connection = Connection::open(&self.endpoint, authorization, &self.subscriptions).await?;
        let mut waiting = self.subscriptions.len();
        loop {
            let frame = if *has_started { connection.next().await? } else { connection.next_soon().await? };
            match frame {
                Frame::StartAck => {
                    waiting = waiting.saturating_sub(1);
                    if waiting == 0 && !*has_started {
                        *has_started = true;
                        self.tell(Event::Started).await;
                    }
                }
                Frame::Data { payload } => self.tell(read(payload)).await,
                Frame::Error { payload } | Frame::ConnectionError { payload } => {
                    return Err(End::Refused(payload.errors));
                }
                Frame::Complete => return Err(End::Broken("the API ended a subscription".to_owned())),
                Frame::Ka | Frame::ConnectionAck { .. } | Frame::Unknown => {}
            }
        }
    }

    async fn tell(&self, event: Event<T>) {
        // Without a reader, the task ends anyway.
        let _ = self.events.send(event).await;
    }
}

/// Reads an update. An update with errors has fields that are missing.
fn read<T: DeserializeOwned>(payload: Data) -> Event<T> {
    if !payload.errors.is_empty() {
        return Event::Unreadable(list(&payload.errors));
    }
    serde_json::from_value(payload.data).map_or_else(|error| Event::Unreadable(error.to_string()), Event::Update)
}

fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::default().with_jitter().with_min_delay(FIRST_PAUSE);
    pauses.with_max_delay(LONGEST_PAUSE).without_max_times().build()
}

async fn wait(pauses: &mut ExponentialBackoff) {
    tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
}
