use std::time::Duration;

use domain::live::Announcement;
use serde_json::json;

use crate::{Failure, RemoteFunction, measure};

/// The maximum time to wait for Lambda. The invocation is asynchronous, so Lambda answers before the function has run.
const PATIENCE: Duration = Duration::from_secs(2);

/// The function `live_publisher`, for updates without an event.
///
/// Sending them is best effort: a failure is logged, and never fails the caller.
#[derive(Clone, Debug)]
pub struct LivePublisher(RemoteFunction);

impl LivePublisher {
    /// Creates a client of the function.
    #[must_use]
    pub fn new(function: RemoteFunction) -> Self {
        Self(function)
    }

    /// Invokes the function with announcements, which must fit into one invocation ([`Batch`](domain::live::Batch)).
    /// Waits for `longest` or two seconds, whichever is shorter. Returns whether Lambda accepted the invocation. A
    /// failure is logged and counted.
    pub async fn tell(&self, announcements: &[Announcement], longest: Duration, correlation_id: &str) -> bool {
        let invoking = self.0.command_later("publish", json!({ "updates": announcements }), correlation_id);
        let failure = match tokio::time::timeout(longest.min(PATIENCE), invoking).await {
            Ok(Ok(())) => return true,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::unavailable("Lambda did not answer in time"),
        };
        measure::count_failure(&failure);
        let (cause, updates) = (failure.cause(), announcements.len());
        tracing::warn!(error = %failure, cause, updates, "subscribers are not told of updates");
        false
    }
}
