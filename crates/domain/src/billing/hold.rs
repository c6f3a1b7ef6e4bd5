use std::collections::BTreeMap;

use chrono::{Duration, SubsecRound};
use rust_decimal::Decimal;

use crate::Instant;
use crate::error::DomainError;
use crate::id::SessionId;
use crate::money::Currency;

/// How long a hold lasts if the end of its session never reaches billing. It must be longer than a session: charging
/// 100 kWh at 2.3 kW takes less than three days. The rest is for the audit, which finds a lost session end within a
/// week.
pub(super) const LIFETIME: Duration = Duration::days(14);
/// How long a hold that is over is remembered, so that a late repetition of its request does not create it again.
const REMEMBERED: Duration = Duration::days(1);
/// The number of attempts that are remembered per session. Only retries with the same idempotency key make more than
/// one.
const ATTEMPTS: usize = 32;

/// The attempt of a caller that names no attempt and therefore makes only one.
pub const SOLE_ATTEMPT: &str = "-";

/// Money of a wallet that is reserved for one prepaid session.
///
/// A hold begins before its session and ends with the session's invoice, with the session's failure, or with the hold's
/// lifetime. Starts that are repeated with the same idempotency key are attempts at one session. They share the hold,
/// and it is given back when the last attempt has given it up.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Id of the session that may spend the money.
    pub session_id: SessionId,
    /// Held amount. It is zero after the hold was given back or has ended.
    pub amount: Decimal,
    /// Currency of the amount.
    pub currency: Currency,
    /// Maximum amount that was requested. `None` requests all the money that is available.
    pub max_cost: Option<Decimal>,
    /// Attempts at starting the session. The value is true while the attempt relies on the hold, and false after it has
    /// given the hold up.
    pub attempts: BTreeMap<String, bool>,
    /// Whether the session has ended, so that no money may be held for it again.
    pub ended: bool,
    /// When the hold expires. From then on it holds no money.
    pub expires_at: Instant,
    /// Number of the hold's last change; 0 before the hold is first written.
    pub version: u64,
}

/// A request to hold money for a session that is about to start.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldRequest {
    /// Id of the session.
    pub session_id: SessionId,
    /// The attempt at starting the session that makes the request.
    pub attempt: String,
    /// Currency of the station's tariff.
    pub currency: Currency,
    /// Maximum cost of the session. `None` requests all the money that is available.
    pub max_cost: Option<Decimal>,
}

/// A hold that was given back or has ended and has to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldEnd {
    /// The hold after the change.
    pub hold: Hold,
    /// Whether the end made money available, so that the wallet has changed too.
    pub freed: bool,
}

impl Hold {
    pub(super) fn new(session_id: SessionId, currency: Currency) -> Self {
        Self {
            session_id,
            amount: currency.round(Decimal::ZERO),
            currency,
            max_cost: None,
            attempts: BTreeMap::new(),
            ended: false,
            expires_at: Instant::default(),
            version: 0,
        }
    }

    /// Returns whether the hold holds money at `now`.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        self.amount > Decimal::ZERO && now < self.expires_at
    }

    pub(super) fn is_of(&self, request: &HoldRequest) -> bool {
        self.currency == request.currency && self.max_cost == request.max_cost
    }

    /// Empties the hold and returns whether it held money until now.
    pub(super) fn empty(&mut self, now: Instant) -> bool {
        let freed = self.is_live(now);
        self.amount = self.currency.round(Decimal::ZERO);
        self.expires_at = (now + REMEMBERED).trunc_subsecs(0);
        self.version += 1;
        freed
    }

    /// Records an attempt, and forgets the oldest attempts that gave the hold up. Attempt ids sort by time.
    pub(super) fn note(&mut self, attempt: &str, relies: bool) {
        self.attempts.insert(attempt.to_owned(), relies);
        while self.attempts.len() > ATTEMPTS {
            let given_up = self.attempts.iter().find(|(other, relies)| !**relies && *other != attempt);
            let Some(oldest) = given_up.map(|(oldest, _)| oldest.clone()) else { break };
            self.attempts.remove(&oldest);
        }
    }
}

/// Returns the error that refuses a hold for a session that has ended.
#[must_use]
pub fn session_has_ended(session: &SessionId) -> DomainError {
    DomainError::conflict(format!("session {session} has ended: nothing is held for it any more"))
}
