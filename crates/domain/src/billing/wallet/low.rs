use rust_decimal::Decimal;

use crate::billing::PaymentCompleted;
use crate::money::Currency;

/// When a wallet is low, so that its user is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowBalance {
    /// A balance below this amount is low. With 0, no balance is.
    pub below: Decimal,
    /// Currency of the amount. A wallet in another currency is never low, because amounts are not converted.
    pub currency: Currency,
}

impl LowBalance {
    /// Returns the balance of a wallet that was not low before `payment`, and is low after it.
    ///
    /// The payments after it find the wallet low already, so that its user is told once until the next top-up.
    #[must_use]
    pub fn reached_by(&self, payment: &PaymentCompleted) -> Option<Decimal> {
        let balance = payment.balance.filter(|_| payment.currency == self.currency)?;
        (balance < self.below && balance + payment.amount >= self.below).then_some(balance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{InvoiceId, SessionId, UserId};

    fn payment(amount: &str, balance: Option<&str>, currency: &str) -> PaymentCompleted {
        let session_id = SessionId::new("x-1").unwrap();
        PaymentCompleted {
            invoice_id: InvoiceId::of(&session_id),
            session_id,
            user_id: UserId::new("u-1").unwrap(),
            amount: amount.parse().unwrap(),
            currency: currency.parse().unwrap(),
            balance: balance.map(|balance| balance.parse().unwrap()),
            wallet_version: balance.map(|_| 2),
        }
    }

    #[test]
    fn the_payment_that_passes_the_limit_is_the_only_one_that_makes_a_wallet_low() {
        let low = |below: &str| LowBalance { below: below.parse().unwrap(), currency: "EUR".parse().unwrap() };
        let cases = [
            ("10.00", payment("5.00", Some("9.99"), "EUR"), Some("9.99")),
            ("10.00", payment("5.00", Some("5.00"), "EUR"), Some("5.00")),
            ("10.00", payment("5.00", Some("0.00"), "EUR"), None),
            ("10.00", payment("5.00", Some("4.99"), "EUR"), None),
            ("10.00", payment("5.00", Some("10.00"), "EUR"), None),
            ("10.00", payment("0.00", None, "EUR"), None),
            ("10.00", payment("5.00", Some("9.99"), "CHF"), None),
            ("0", payment("5.00", Some("0.00"), "EUR"), None),
        ];
        for (below, payment, expected) in cases {
            let expected = expected.map(|balance| balance.parse().unwrap());
            assert_eq!(low(below).reached_by(&payment), expected, "{below}: {payment:?}");
        }
    }
}
