use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::charging::station::Port;
use domain::id::{SessionId, UserId};
use domain::money::Currency;
use lambda_kit::{Code, Failure, Peer};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;
use store::{StationStore, StoreError};
use uuid::Uuid;

/// One request's attempt at starting a prepaid session. Repetitions of a request under one idempotency key may run at
/// the same time: they share what billing holds for their session, and each gives up its own part in it.
pub struct Prepayment {
    attempt: Uuid,
    /// Whether billing may hold something because of this attempt.
    may_hold: AtomicBool,
    /// The port of a start that was not answered, as it was read. The start may still be written.
    unanswered_at: OnceLock<Port>,
}

/// What billing holds for a session, as billing answers it.
#[derive(Deserialize)]
struct Hold {
    amount: Decimal,
}

impl Prepayment {
    /// A new attempt.
    pub fn new() -> Self {
        Self { attempt: Uuid::now_v7(), may_hold: AtomicBool::new(false), unanswered_at: OnceLock::new() }
    }

    /// Has billing hold what the session may cost at most, and answers how much that is.
    pub async fn hold(
        &self,
        billing: &Peer,
        (user, session): (&UserId, &SessionId),
        (currency, max_cost): (Currency, Option<Decimal>),
        correlation_id: &str,
    ) -> Result<Decimal, Failure> {
        let hold = json!({
            "userId": user, "sessionId": session, "attempt": self.attempt, "currency": currency, "maxCost": max_cost
        });
        let answer = billing.command("holdFunds", hold, correlation_id).await;
        // After a refusal nothing is held; an answer that is missing may be that of a hold.
        let refused = answer.as_ref().is_err_and(|failure| !matches!(failure.code, Code::Unavailable | Code::Internal));
        if !refused {
            self.may_hold.store(true, Ordering::Relaxed);
        }
        Ok(serde_json::from_value::<Hold>(answer?).map_err(Failure::internal)?.amount)
    }

    /// Whether billing may hold something that a refused start has to give up.
    pub fn may_hold(&self) -> bool {
        self.may_hold.load(Ordering::Relaxed)
    }

    /// The start at `port`, as it was read, was sent to the tables and not answered.
    pub fn unanswered(&self, port: Port) {
        let _ = self.unanswered_at.set(port);
    }

    /// Changes the port of a start that was not answered, so that the start can no longer be written. Where that fails the
    /// port is not as it was read: then the start has been written, or another change has the same effect.
    pub async fn rule_out_late_start(&self, stations: &StationStore) -> Result<(), StoreError> {
        let Some(port) = self.unanswered_at.get() else { return Ok(()) };
        let touched = Port { version: port.version + 1, ..port.clone() };
        match stations.save_port(&touched).await {
            Err(error) if !error.is_stale() => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives up what billing holds: later, and again if it fails, since a billing that did not answer in time is too slow
    /// to be waited for. Where all of that fails the hold lasts until its time to live is over.
    pub async fn give_up(&self, billing: &Peer, (user, session): (&UserId, &SessionId), correlation_id: &str) {
        let release = json!({ "userId": user, "sessionId": session, "attempt": self.attempt });
        if let Err(failure) = billing.command_later("releaseFunds", release, correlation_id).await {
            let cause = failure.cause.as_deref().unwrap_or(&failure.message);
            tracing::warn!(session.id = %session, cause, "funds of a session that did not start are still held");
        }
    }
}
