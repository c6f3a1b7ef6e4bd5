use chrono::SubsecRound;
use rust_decimal::{Decimal, RoundingStrategy};

use super::Wallet;
use crate::Instant;
use crate::billing::hold::{Hold, HoldEnd, HoldRequest, LIFETIME, SOLE_ATTEMPT, session_has_ended};
use crate::error::DomainError;
use crate::id::SessionId;

impl Wallet {
    /// Returns the total amount that sessions hold of the balance at `now`.
    #[must_use]
    pub fn held(&self, now: Instant) -> Decimal {
        self.currency.round(self.holds.iter().filter(|hold| hold.is_live(now)).map(|hold| hold.amount).sum())
    }

    /// Returns the amount that may be spent at `now`: the balance less the held amounts.
    #[must_use]
    pub fn available(&self, now: Instant) -> Decimal {
        self.balance - self.held(now)
    }

    /// Returns the hold that already exists for this request, made by this attempt or by another attempt at the same
    /// session.
    ///
    /// # Errors
    /// `Conflict` if the session has ended, if the attempt has given the hold up, or if the hold was made for a request
    /// with another currency or maximum cost.
    pub fn standing_hold(&self, request: &HoldRequest, now: Instant) -> Result<Option<&Hold>, DomainError> {
        let session = &request.session_id;
        let Some(hold) = self.holds.iter().find(|hold| hold.session_id == *session) else { return Ok(None) };
        if hold.ended {
            return Err(session_has_ended(session));
        }
        if hold.attempts.get(&request.attempt) == Some(&false) {
            let message = format!("what was held for session {session} was given back: start the session anew");
            return Err(DomainError::conflict(message));
        }
        if !hold.is_live(now) {
            return Ok(None);
        }
        if !hold.is_of(request) {
            let message = format!(
                "{} {} are held for session {session} by a request with another currency or maxCost",
                hold.amount, hold.currency
            );
            return Err(DomainError::conflict(message));
        }
        Ok(Some(hold))
    }

    /// Holds money for a session that holds none: `request.max_cost`, or as much of it as is available. `due` is the
    /// amount due on OPEN invoices in the wallet's currency; it is not available to a new session.
    ///
    /// # Errors
    /// `Conflict` if no money is available or if the wallet and the tariff have different currencies; `Validation` if
    /// `max_cost` is below the currency's minor unit.
    pub fn hold(&mut self, request: &HoldRequest, due: Decimal, now: Instant) -> Result<Hold, DomainError> {
        let (own, asked) = (self.currency, request.currency);
        let digits = asked.minor_digits();
        let most = request.max_cost.map(|most| most.round_dp_with_strategy(digits, RoundingStrategy::ToZero));
        if most.is_some_and(|most| most <= Decimal::ZERO) {
            let least = Decimal::new(1, digits);
            return Err(DomainError::invalid("maxCost", format!("must be at least {least} {asked}")));
        }
        if own != asked {
            return Err(DomainError::conflict(format!(
                "the wallet is in {own}, the station's tariff in {asked}, and nothing is converted: a prepaid session \
                 cannot start here"
            )));
        }
        if self.balance <= Decimal::ZERO {
            return Err(DomainError::conflict("the wallet is empty: top it up before a prepaid session"));
        }
        let available = self.available(now) - due;
        if available <= Decimal::ZERO {
            return Err(DomainError::conflict(format!(
                "nothing is available in the wallet: of {} {own}, {} are held for other sessions and {} are due on open \
                 invoices; top it up before a prepaid session",
                self.balance,
                self.held(now),
                own.round(due)
            )));
        }
        let earlier = self.holds.iter().position(|hold| hold.session_id == request.session_id);
        let earlier = earlier.map(|index| self.holds.swap_remove(index));
        let mut hold = earlier.unwrap_or_else(|| Hold::new(request.session_id.clone(), own));
        hold.amount = own.round(most.map_or(available, |most| most.min(available)));
        (hold.currency, hold.max_cost) = (own, request.max_cost);
        hold.expires_at = (now + LIFETIME).trunc_subsecs(0);
        hold.version += 1;
        // Attempts that relied on an expired hold did not start the session.
        hold.attempts.values_mut().for_each(|relies| *relies = false);
        hold.note(&request.attempt, true);
        self.holds.push(hold.clone());
        self.touch();
        Ok(hold)
    }

    /// Gives up the hold for one attempt at starting a session or, if `attempt` is `None`, for all attempts. The money
    /// is available again once no attempt relies on the hold. A later request by the same attempt gets no money.
    /// Returns `None` if nothing changes.
    pub fn give_up_hold(&mut self, session: &SessionId, attempt: Option<&str>, now: Instant) -> Option<HoldEnd> {
        let hold = self.hold_of(session);
        let relied_on = attempt.is_none() && hold.attempts.values().any(|relies| *relies);
        let attempt = attempt.unwrap_or(SOLE_ATTEMPT);
        if hold.ended || (hold.attempts.get(attempt) == Some(&false) && !relied_on) {
            return None;
        }
        if relied_on {
            hold.attempts.values_mut().for_each(|relies| *relies = false);
        }
        hold.note(attempt, false);
        let relied_on = hold.is_live(now) && hold.attempts.values().any(|relies| *relies);
        let freed = if relied_on {
            hold.version += 1;
            false
        } else {
            hold.empty(now)
        };
        Some(HoldEnd { hold: hold.clone(), freed })
    }

    /// Ends the hold of a session that has ended, and remembers for a while that it has ended, even if there was no
    /// hold. Returns `None` if the hold has already been ended.
    pub fn end_hold(&mut self, session: &SessionId, now: Instant) -> Option<HoldEnd> {
        let hold = self.hold_of(session);
        if hold.ended {
            return None;
        }
        hold.ended = true;
        let freed = hold.empty(now);
        Some(HoldEnd { hold: hold.clone(), freed })
    }

    /// Returns whether the wallet knows a hold of this session.
    #[must_use]
    pub fn knows_hold(&self, session: &SessionId) -> bool {
        self.holds.iter().any(|hold| hold.session_id == *session)
    }

    fn hold_of(&mut self, session: &SessionId) -> &mut Hold {
        let known = self.holds.iter().position(|hold| hold.session_id == *session);
        let index = known.unwrap_or_else(|| {
            self.holds.push(Hold::new(session.clone(), self.currency));
            self.holds.len() - 1
        });
        &mut self.holds[index]
    }
}
