use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::Limits;
use crate::Instant;
use crate::charging::tariff::Tariff;
use crate::charging::tariff::least_price;
use crate::error::DomainError;

impl Limits {
    /// Whether a session that starts `now` can stay within `maxCost` by `tariff`.
    ///
    /// # Errors
    /// A validation error for `limits.maxCost` when the tariff charges more at the least.
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

/// Whether a prepaid session that starts `now` can be paid from `balance`, in the tariff's currency.
///
/// # Errors
/// A conflict that says what the wallet must hold when the tariff charges more at the least.
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
