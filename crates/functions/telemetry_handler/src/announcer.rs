//! Tells those who have subscribed to a battery-swap station that it changed: at most once a minute, and best effort.
//!
//! The item of the station has what was told last. A message that is due to be told is noted there first, so that no
//! other message is told within the minute. If telling then fails, the note is taken back, and the next message tries
//! again. A crash between the note and the telling loses one change, until the station changes again.

use std::time::{Duration, Instant as Stopwatch};

use domain::Instant;
use domain::error::Chain;
use domain::live::{Announcement, Batch, SwapStationUpdate};
use domain::telemetry::{Announced, Message};
use futures::{StreamExt, stream};
use lambda_kit::{Context, Failure, LivePublisher, RemoteFunction, count_failure};
use store::{StoreError, TelemetryStore};

use crate::PARALLEL_WRITES;

/// The time before the deadline that is reserved for what has to be done after telling.
const RESERVE: Duration = Duration::from_secs(5);

/// Tells subscribers of battery-swap stations.
#[derive(Debug)]
pub(crate) struct Announcer {
    states: TelemetryStore,
    publisher: LivePublisher,
}

/// A change that is due to be told, and is noted on the item of its station.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    update: SwapStationUpdate,
    announced: Announced,
}

impl Announcer {
    /// Creates the announcer of the stations in `states`.
    pub fn new(states: TelemetryStore, live_publisher: RemoteFunction) -> Self {
        Self { states, publisher: LivePublisher::new(live_publisher) }
    }

    /// Returns what is due to be told of a message that is the state of its station, and notes that it will be told.
    /// `last` is what was told last.
    pub async fn due(
        &self,
        message: &Message,
        received_at: Instant,
        last: Option<&Announced>,
        now: Instant,
    ) -> Option<Due> {
        let announced = Announced::due(last, &message.reading, now)?;
        let is_noted = match self.states.announce(message, &announced).await {
            Ok(is_noted) => is_noted,
            Err(error) => {
                report(error);
                false
            }
        };
        is_noted.then(|| Due { update: SwapStationUpdate::new(&message.reading, received_at), announced })
    }

    /// Tells subscribers. What cannot be told is no longer noted as told.
    pub async fn tell(&self, due: &[Due], context: &Context) {
        let watch = Stopwatch::now();
        let mut batch = Batch::default();
        let announcements = due.iter().map(|due| Announcement::SwapStation(due.update.clone()));
        let mut batches: Vec<Vec<Announcement>> =
            announcements.filter_map(|announcement| batch.add(announcement)).collect();
        batches.push(batch.take());
        let mut told = 0;
        for announcements in batches.iter().filter(|announcements| !announcements.is_empty()) {
            let longest = context.time_left().saturating_sub(RESERVE + watch.elapsed());
            if !self.publisher.tell(announcements, longest, &context.correlation_id).await {
                break;
            }
            told += announcements.len();
        }
        // The batches have the changes in the same order.
        let untold = stream::iter(due.iter().skip(told).cloned());
        let taken_back = untold.map(|due| async move {
            if let Err(error) = self.states.take_back(&due.update.station_id, &due.announced).await {
                report(error);
            }
        });
        taken_back.buffer_unordered(PARALLEL_WRITES).collect::<Vec<()>>().await;
    }
}

/// Logs and counts a failure that fails no message.
fn report(error: StoreError) {
    tracing::warn!(error = %Chain(&error), "a change of a station is not told");
    count_failure(&Failure::from(error));
}
