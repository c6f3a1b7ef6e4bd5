use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::Limits;
use crate::Instant;
use crate::charging::tariff::Tariff;
use crate::charging::tariff::least_price;
use crate::error::DomainError;

impl Limits {
    /// Checks that a session that starts `now` under `tariff` can stay within `maxCost`.
    ///
    /// # Errors
    /// `Validation` for `limits.maxCost` if the least price of a session is above the limit.
    pub fn allow_least_price(&self, tariff: &Tariff, time_zone: Tz, now: Instant) -> Result<(), DomainError> {
        let Some(max_cost) = self.max_cost else {
            return Ok(());
        };
        let least = least_price(tariff, time_zone, now);
        if max_cost >= least {
            return Ok(());
        }
        let message = format!("must be at least {least} {}, which any session here costs now", tariff.currency);
        Err(DomainError::invalid("limits.maxCost", message))
    }
}

/// Checks that `balance` can pay for a prepaid session that starts `now`. The balance is in the tariff's currency.
///
/// # Errors
/// `Conflict` if the least price of a session is above the balance. The message names the balance that is needed.
pub fn balance_allows_least_price(
    balance: Decimal,
    tariff: &Tariff,
    time_zone: Tz,
    now: Instant,
) -> Result<(), DomainError> {
    let least = least_price(tariff, time_zone, now);
    if balance >= least {
        return Ok(());
    }
    let currency = tariff.currency;
    Err(DomainError::conflict(format!(
        "the wallet holds {balance} {currency}, but any session here costs at least {least} {currency} now: \
         top it up before a prepaid session"
    )))
}
