use std::time::Duration;

use domain::live::Announcement;
use serde_json::json;

use crate::{Failure, RemoteFunction, measure};

/// How long an invocation of `live_publisher` may take. It is asynchronous, so Lambda answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The function `live_publisher`, which tells subscribers of what is no event.
///
/// Telling them is best effort: it never fails what is told of.
#[derive(Clone, Debug)]
pub struct LivePublisher(RemoteFunction);

impl LivePublisher {
    /// Creates a client of the function.
    #[must_use]
    pub fn new(function: RemoteFunction) -> Self {
        Self(function)
    }

    /// Hands announcements over, which must fit into one invocation ([`Batch`](domain::live::Batch)). It waits at most
    /// for `longest`, and at most two seconds. Returns whether Lambda took them; a failure is logged and counted.
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
