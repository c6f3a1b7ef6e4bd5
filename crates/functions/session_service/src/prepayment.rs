use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::charging::station::Port;
use domain::id::{SessionId, UserId};
use domain::money::Currency;
use lambda_kit::{Failure, RemoteFunction};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;
use store::{StationStore, StoreError};
use uuid::Uuid;

/// The attempt of one request to start a prepaid session.
///
/// Repetitions of a request with the same idempotency key may run concurrently. They share the money that billing holds
/// for their session, and each gives up only its own claim to it.
pub struct Prepayment {
    attempt: Uuid,
    /// Whether billing may hold money for this attempt.
    may_hold: AtomicBool,
    /// The port as it was read before a start whose write returned no answer. The start may still be written.
    unanswered_at: OnceLock<Port>,
}

/// The answer of billing to a hold.
#[derive(Deserialize)]
struct Hold {
    amount: Decimal,
}

impl Prepayment {
    /// Creates a new attempt.
    pub fn new() -> Self {
        Self { attempt: Uuid::now_v7(), may_hold: AtomicBool::new(false), unanswered_at: OnceLock::new() }
    }

    /// Asks billing to hold the maximum cost of the session, and returns the amount that is held.
    pub async fn hold(
        &self,
        billing: &RemoteFunction,
        (user, session): (&UserId, &SessionId),
        (currency, max_cost): (Currency, Option<Decimal>),
        correlation_id: &str,
    ) -> Result<Decimal, Failure> {
        let hold = json!({
            "userId": user, "sessionId": session, "attempt": self.attempt, "currency": currency, "maxCost": max_cost
        });
        let answer = billing.command("holdFunds", hold, correlation_id).await;
        // After a refusal nothing is held. If the answer is missing, the hold may exist.
        let refused = answer.as_ref().is_err_and(|failure| !failure.is_ours());
        if !refused {
            self.may_hold.store(true, Ordering::Relaxed);
        }
        Ok(serde_json::from_value::<Hold>(answer?).map_err(Failure::internal)?.amount)
    }

    /// Returns whether billing may hold money that a refused start must release.
    pub fn may_hold(&self) -> bool {
        self.may_hold.load(Ordering::Relaxed)
    }

    /// Records that the start at `port` was sent to the tables but not answered. `port` is the port as it was read.
    pub fn unanswered(&self, port: Port) {
        let _ = self.unanswered_at.set(port);
    }

    /// Changes the port of a start that was not answered, so that the start can no longer be written.
    ///
    /// If the condition of this write fails, the port is no longer as it was read. Then either the start has been
    /// written, or another change already prevents it.
    pub async fn rule_out_late_start(&self, stations: &StationStore) -> Result<(), StoreError> {
        let Some(port) = self.unanswered_at.get() else { return Ok(()) };
        let touched = Port { version: port.version + 1, ..port.clone() };
        match stations.save_port(&touched).await {
            Err(error) if !error.is_stale() => Err(error),
            _ => Ok(()),
        }
    }

    /// Releases the money that billing holds.
    ///
    /// The release is invoked asynchronously, with Lambda's retries: if billing did not answer in time, it is too slow
    /// to wait for. If all attempts fail, the hold lasts until it expires.
    pub async fn give_up(
        &self,
        billing: &RemoteFunction,
        (user, session): (&UserId, &SessionId),
        correlation_id: &str,
    ) {
        let release = json!({ "userId": user, "sessionId": session, "attempt": self.attempt });
        if let Err(failure) = billing.command_later("releaseFunds", release, correlation_id).await {
            let cause = failure.cause().unwrap_or_else(|| failure.message().to_owned());
            tracing::warn!(session.id = %session, cause, "funds of a session that did not start are still held");
        }
    }
}
