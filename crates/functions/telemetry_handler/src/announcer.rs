//! Sends subscribers the changes of a battery-swap station: at most once a minute, and best effort.
//!
//! The item of the station has the last announcement. A new announcement is recorded there before it is sent, so that
//! no other message is announced within the minute. If sending fails, the record is removed, and the next message is
//! announced instead. A crash between the record and the sending loses one announcement, until the station changes
//! again.

use std::time::{Duration, Instant as Stopwatch};

use domain::Instant;
use domain::error::Chain;
use domain::live::{Announcement, Batch, SwapStationUpdate};
use domain::telemetry::{Announced, Message};
use futures::{StreamExt, stream};
use lambda_kit::{Context, Failure, LivePublisher, RemoteFunction, count_failure};
use store::{StoreError, TelemetryStore};

use crate::PARALLEL_WRITES;

/// The time before the deadline that is reserved for the work after the sending.
const RESERVE: Duration = Duration::from_secs(5);

/// Sends subscribers the changes of battery-swap stations.
#[derive(Debug)]
pub(crate) struct Announcer {
    states: TelemetryStore,
    publisher: LivePublisher,
}

/// An announcement that is due, and is recorded on the item of its station.
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

    /// Returns the announcement of a message that is the state of its station, if the announcement is due, and records
    /// it. `last` is the last announcement.
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

    /// Sends announcements. Removes the record of those that cannot be sent.
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
        // The batches have the announcements in the order of `due`, so the unsent ones are at the end.
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
