//! `evoke bench live`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use appsync::{Event, Subscription, Update};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::charging::session::SessionStatus;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::billing::open_station;
use super::percentiles;
use crate::api::Api;
use crate::graphql::GraphQl;
use crate::stack::Stack;

/// The maximum time until all subscribers are connected, and until an update has reached all of them.
const PATIENCE: Duration = Duration::from_mins(2);
/// The number of subscribers that connect at the same time.
const AT_ONCE: usize = 50;

/// The events of all subscribers, each with the number of the subscriber.
type Events = SelectAll<BoxStream<'static, (usize, Event<Update>)>>;

/// Stops sessions on the deployed stack, one after the other, and waits for the update of each: first with one
/// subscriber, then with many.
pub async fn live(stack: &Stack, sessions: u32, subscribers: u32) -> Result<()> {
    let api = Api::of(stack)?;
    let id = Uuid::new_v4().simple().to_string();
    let (email, password) = (format!("bench-{id}@example.com"), format!("Bench-1-{id}"));
    api.register(&json!({ "email": email, "name": "Bench", "password": password })).await?;
    let station = open_station(stack).await?;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["subscribers", "request p50 ms", "one p50 ms", "one p99 ms", "all p50 ms", "all p99 ms"]);
    for count in [1, subscribers.max(1)] {
        // With a new token, which does not expire in the middle of the measurement.
        let user = api.sign_in(&email, &password).await?;
        let id = user.account().await?.user_id;
        let graphql = GraphQl::new(stack, Arc::new(user))?;
        let mut crowd = Crowd::gather(&graphql, &id, count).await?;
        let times = crowd.measure(&graphql, &station, sessions.max(1)).await?;
        let [request] = percentiles(times.requests, [50]);
        let [one_p50, one_p99] = percentiles(times.one, [50, 99]);
        let [all_p50, all_p99] = percentiles(times.all, [50, 99]);
        let figures = [request, one_p50, one_p99, all_p50, all_p99].map(|figure| format!("{figure:.0}"));
        table.add_row(std::iter::once(count.to_string()).chain(figures));
    }
    println!("{table}");
    println!(
        "{} sessions each, one after the other. Times are from the request of stopSession: to its answer, to the\n\
         update at one of the subscribers, and to the update at the last of them. Each subscriber has its own WebSocket.",
        sessions.max(1)
    );
    // An account with an invoice that is still being issued stays.
    let account = api.log_in(&email, &password).await?;
    api.send(Method::DELETE, "/account", Some(&account), None).await?;
    Ok(())
}

/// The times of a measurement, ms.
#[derive(Default)]
struct Times {
    requests: Vec<f64>,
    one: Vec<f64>,
    all: Vec<f64>,
}

/// An update of a session at one of the subscribers, which are numbered from 0.
struct Arrival {
    subscriber: usize,
    session: String,
    status: SessionStatus,
    at: Instant,
}

/// Subscribers who get the updates of all sessions of one user.
struct Crowd {
    arrivals: mpsc::UnboundedReceiver<Result<Arrival>>,
    size: usize,
    reader: JoinHandle<()>,
}

impl Crowd {
    /// Lets this number of subscribers connect, and waits until all subscriptions are in effect.
    async fn gather(graphql: &GraphQl, user: &str, size: u32) -> Result<Self> {
        let size = usize::try_from(size)?;
        let progress = indicatif::ProgressBar::new(size as u64).with_message("subscribers");
        let mut events = Events::new();
        let mut started = 0;
        for number in 0..size {
            let live = graphql.subscribe(vec![Subscription::sessions_of(user)]);
            events.push(live.map(move |event| (number, event)).boxed());
            if (number + 1).is_multiple_of(AT_ONCE) || number + 1 == size {
                let all = all_started(&mut events, &mut started, number + 1);
                timeout(PATIENCE, all).await.context("not all subscribers could connect")??;
                progress.set_position(started as u64);
            }
        }
        progress.finish_and_clear();
        let (sender, arrivals) = mpsc::unbounded_channel();
        // A task of its own notes the time, whatever else is being waited for.
        let reader = tokio::spawn(async move {
            while let Some((subscriber, event)) = events.next().await {
                let arrival = match event {
                    Event::Update(Update::SessionChanged(update)) => {
                        let (session, status) = (update.session_id, update.status);
                        Ok(Arrival { subscriber, session, status, at: Instant::now() })
                    }
                    event => Err(anyhow::anyhow!("subscriber {subscriber} does not get every update: {event:?}")),
                };
                if sender.send(arrival).is_err() {
                    return;
                }
            }
        });
        Ok(Self { arrivals, size, reader })
    }

    /// Starts and stops sessions, one after the other.
    async fn measure(&mut self, graphql: &GraphQl, station: &str, sessions: u32) -> Result<Times> {
        let progress = indicatif::ProgressBar::new(sessions.into());
        let mut times = Times::default();
        for _ in 0..sessions {
            let session = graphql.start_session(station).await?.session_id;
            self.arrival_of(&session, true).await?;
            let watch = Instant::now();
            graphql.stop_session(&session).await?;
            times.requests.push(milliseconds(watch.elapsed()));
            let [one, all] = self.arrival_of(&session, false).await?;
            times.one.push(milliseconds(one.duration_since(watch)));
            times.all.push(milliseconds(all.duration_since(watch)));
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(times)
    }

    /// Waits until the start or the end of a session has reached every subscriber. Returns when it reached the first in
    /// the list of subscribers, and when it reached the last one.
    async fn arrival_of(&mut self, session: &str, is_start: bool) -> Result<[Instant; 2]> {
        let mut at: Vec<Option<Instant>> = vec![None; self.size];
        let mut missing = self.size;
        let all = async {
            while missing > 0 {
                let arrival = self.arrivals.recv().await.context("nobody reads the updates")??;
                let Some(time) = at.get_mut(arrival.subscriber) else { bail!("an unknown subscriber") };
                // An update may come twice.
                if arrival.session == session && arrival.status.is_active() == is_start && time.is_none() {
                    *time = Some(arrival.at);
                    missing -= 1;
                }
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, all).await.with_context(|| format!("an update of session {session} did not arrive"))??;
        let first = at.first().copied().flatten().context("there are no subscribers")?;
        let last = at.into_iter().flatten().max().context("there are no subscribers")?;
        Ok([first, last])
    }
}

/// Waits until this number of subscribers has started.
async fn all_started(events: &mut Events, started: &mut usize, count: usize) -> Result<()> {
    while *started < count {
        match events.next().await.context("a subscriber has gone")?.1 {
            Event::Started => *started += 1,
            Event::Interrupted(reason) => println!("a subscriber connects again: {reason}"),
            Event::Refused(errors) => return Err(appsync::Error::Refused(errors).into()),
            Event::Update(_) | Event::Unreadable(_) => {}
        }
    }
    Ok(())
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
