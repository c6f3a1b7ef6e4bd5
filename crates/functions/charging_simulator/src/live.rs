//! Sends subscribers the progress of the sessions at each station, while a tick runs.
//!
//! The progress of a station is sent after its changes were committed. One invocation of `live_publisher` has the
//! progress of many stations. If one invocation fails, the rest of the tick sends no progress, so that at most one
//! failure delays the tick. The next tick sends progress again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Instant;
use domain::id::StationId;
use domain::live::{Announcement, Batch, SessionProgress, StationProgress};
use lambda_kit::LivePublisher;

use crate::budget::TimeBudget;

/// Sends subscribers the progress of one tick.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    publisher: Option<&'a LivePublisher>,
    time: &'a TimeBudget,
    correlation_id: &'a str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    has_failed: bool,
}

impl<'a> Live<'a> {
    /// Creates the sender of one tick. Without a `publisher`, no progress is sent.
    pub fn new(publisher: Option<&'a LivePublisher>, time: &'a TimeBudget, correlation_id: &'a str) -> Self {
        Self { publisher, time, correlation_id, state: Mutex::default() }
    }

    /// Adds the progress of the sessions at a station, which were advanced to `at`. Sends the progress of earlier
    /// stations if it fills an invocation.
    pub async fn tell(&self, station: StationId, at: Instant, sessions: Vec<SessionProgress>) {
        if self.publisher.is_none() || sessions.is_empty() {
            return;
        }
        let progress = StationProgress { station_id: station, at, sessions };
        let full = self.state().batch.add(Announcement::StationProgress(progress));
        if let Some(full) = full {
            self.send(&full).await;
        }
    }

    /// Sends the progress that is left.
    pub async fn finish(self) {
        let rest = self.state().batch.take();
        if !rest.is_empty() {
            self.send(&rest).await;
        }
    }

    async fn send(&self, announcements: &[Announcement]) {
        let Some(publisher) = self.publisher.filter(|_| !self.state().has_failed) else { return };
        let longest = self.time.until_answer();
        if longest.is_zero() {
            tracing::info!(stations = announcements.len(), "there is no time to tell subscribers of a tick");
            return;
        }
        if !publisher.tell(announcements, longest, self.correlation_id).await {
            self.state().has_failed = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
