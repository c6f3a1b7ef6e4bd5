mod events;

pub use events::{InvoiceGenerated, PaymentCompleted, PaymentFailed, PaymentOutcome};

use chrono::Duration;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hold::HoldEnd;
use super::wallet::{LedgerEntry, PaymentRefusal, Wallet};
use crate::Instant;
use crate::actor::Role;
use crate::charging::session::SessionStatus;
use crate::charging::session::{EventPeriod, SessionEnded};
use crate::charging::tariff::Bill;
use crate::charging::tariff::{ChargingPeriod, price};
use crate::error::{Checks, DomainError};
use crate::id::{InvoiceId, SessionId, StationId, UserId};
use crate::machine::State;

/// Status of an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvoiceStatus {
    /// Waiting for payment.
    Open,
    /// Paid from the user's wallet.
    Paid,
    /// Credited in full.
    Credited,
}

const PAYERS: &[Role] = &Role::ALL;
const ADMIN: &[Role] = &[Role::Admin];

impl State for InvoiceStatus {
    const WHAT: &'static str = "invoice";
    const ALL: &'static [Self] = &[Self::Open, Self::Paid, Self::Credited];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Paid => "PAID",
            Self::Credited => "CREDITED",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Open => &[(Self::Paid, PAYERS), (Self::Credited, ADMIN)],
            Self::Paid => &[(Self::Credited, ADMIN)],
            Self::Credited => &[],
        }
    }
}

/// The payment of an invoice.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment {
    /// Amount that was due at the time: the total, less what had been credited before.
    pub amount: Decimal,
    /// When the invoice was paid.
    pub paid_at: Instant,
    /// Number of the ledger entry. `None` if nothing was due.
    pub entry: Option<u64>,
}

/// An invoice: the sealed statement of what a session costs its user.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoice {
    /// Id of the invoice, derived from the id of the session.
    pub id: InvoiceId,
    /// Id of the billed session.
    pub session_id: SessionId,
    /// Id of the user who pays.
    pub user_id: UserId,
    /// Id of the station where the session ran.
    pub station_id: StationId,
    /// Current status.
    pub status: InvoiceStatus,
    /// Lines, VAT and totals.
    pub bill: Bill,
    /// Billed energy of the meter register, kWh.
    pub energy_kwh: Decimal,
    /// When the session started.
    pub started_at: Instant,
    /// When the session ended.
    pub ended_at: Instant,
    /// When the invoice was issued.
    pub issued_at: Instant,
    /// Amount credited so far, including VAT.
    pub credited: Decimal,
    /// The payment, if the invoice has been paid.
    pub payment: Option<Payment>,
    /// Number of the invoice's last change.
    pub version: u64,
}

/// An invoice as it was issued, with everything that is written together with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// The invoice, which is PAID or OPEN.
    pub invoice: Invoice,
    /// The wallet, if it changed.
    pub wallet: Option<Wallet>,
    /// The ledger entry of the debit, if the invoice was paid.
    pub entry: Option<LedgerEntry>,
    /// The hold of the session, which ends with its invoice.
    pub hold: Option<HoldEnd>,
    /// The event of the invoice's issue.
    pub generated: InvoiceGenerated,
    /// The event of the payment's outcome.
    pub payment: PaymentOutcome,
}

impl Invoice {
    /// Returns the OPEN invoice for an ended session, or `None` for a FAILED session, which is not billed.
    ///
    /// # Errors
    /// `Validation`, naming the fields, if the event cannot be billed: it has an unknown time zone, its periods do not
    /// add up to the register or are out of order, its tariff is out of range, or its session has not ended.
    pub fn for_session(ended: &SessionEnded, issued_at: Instant) -> Result<Option<Self>, DomainError> {
        if ended.status == SessionStatus::Failed {
            return Ok(None);
        }
        let bill = priced(ended)?;
        Ok(Some(Self {
            id: InvoiceId::of(&ended.session_id),
            session_id: ended.session_id.clone(),
            user_id: ended.user_id.clone(),
            station_id: ended.station_id.clone(),
            status: InvoiceStatus::Open,
            credited: bill.currency.round(Decimal::ZERO),
            bill,
            energy_kwh: ended.energy_kwh.round_dp(3),
            started_at: ended.started_at,
            ended_at: ended.ended_at,
            issued_at,
            payment: None,
            version: 1,
        }))
    }

    /// Returns the amount that is still to be paid, including VAT.
    #[must_use]
    pub fn due(&self) -> Decimal {
        match self.status {
            InvoiceStatus::Open => self.bill.total_incl_vat - self.credited,
            InvoiceStatus::Paid | InvoiceStatus::Credited => self.bill.currency.round(Decimal::ZERO),
        }
    }

    /// Issues the invoice. It is paid at once if `wallet` has enough money available, and is OPEN otherwise. The amount
    /// that the session held is available to its invoice. If nothing is due and nothing was held, the wallet does not
    /// change.
    #[must_use]
    pub fn issue(mut self, mut wallet: Wallet, now: Instant) -> Issued {
        let amount = self.due();
        let hold = wallet.knows_hold(&self.session_id).then(|| wallet.end_hold(&self.session_id, now)).flatten();
        if amount.is_zero() {
            self.paid(amount, None, now);
            let (generated, payment) = (self.generated_event(), self.payment_event(Ok(None)));
            let freed = hold.as_ref().is_some_and(|end| end.freed);
            let wallet = freed.then(|| {
                wallet.touch();
                wallet
            });
            return Issued { invoice: self, wallet, entry: None, hold, generated, payment };
        }
        let paid = wallet.pay(&self.id, amount, self.bill.currency, now);
        match &paid {
            Ok(entry) => self.paid(amount, Some(entry), now),
            Err(_) => wallet.touch(),
        }
        let payment = self.payment_event(paid.as_ref().map(Some).map_err(|refusal| *refusal));
        let generated = self.generated_event();
        Issued { invoice: self, wallet: Some(wallet), entry: paid.ok(), hold, generated, payment }
    }

    /// Pays an OPEN invoice from `wallet` and returns the ledger entry.
    ///
    /// # Errors
    /// The reason why the wallet cannot pay. The invoice and the wallet then stay unchanged.
    pub fn settle(&mut self, wallet: &mut Wallet, now: Instant) -> Result<LedgerEntry, PaymentRefusal> {
        let amount = self.due();
        let entry = wallet.pay(&self.id, amount, self.bill.currency, now)?;
        self.paid(amount, Some(&entry), now);
        self.version += 1;
        Ok(entry)
    }

    fn paid(&mut self, amount: Decimal, entry: Option<&LedgerEntry>, now: Instant) {
        self.status = InvoiceStatus::Paid;
        self.payment = Some(Payment { amount, paid_at: now, entry: entry.map(|entry| entry.sequence) });
    }

    /// Adds the total of a credit note, including VAT, to the amount credited so far.
    pub(super) fn add_credit(&mut self, total_incl_vat: Decimal) {
        self.credited = self.bill.currency.round(self.credited + total_incl_vat);
        if self.credited == self.bill.total_incl_vat {
            self.status = InvoiceStatus::Credited;
        }
        self.version += 1;
    }

    fn generated_event(&self) -> InvoiceGenerated {
        InvoiceGenerated {
            invoice_id: self.id.clone(),
            session_id: self.session_id.clone(),
            user_id: self.user_id.clone(),
            station_id: self.station_id.clone(),
            status: self.status,
            currency: self.bill.currency,
            total_excl_vat: self.bill.total_excl_vat,
            total_incl_vat: self.bill.total_incl_vat,
            issued_at: self.issued_at,
        }
    }

    /// Returns the event of the payment's outcome. `paid` has the ledger entry of the debit, which is absent if nothing
    /// was due, or the reason why the invoice could not be paid.
    #[must_use]
    pub fn payment_event(&self, paid: Result<Option<&LedgerEntry>, PaymentRefusal>) -> PaymentOutcome {
        let (invoice_id, session_id, user_id) = (self.id.clone(), self.session_id.clone(), self.user_id.clone());
        let currency = self.bill.currency;
        match paid {
            Err(reason) => PaymentOutcome::Failed(PaymentFailed {
                invoice_id,
                session_id,
                user_id,
                amount: self.due(),
                currency,
                reason,
            }),
            Ok(entry) => PaymentOutcome::Completed(PaymentCompleted {
                invoice_id,
                session_id,
                user_id,
                amount: self.payment.as_ref().map(|payment| payment.amount).unwrap_or_default(),
                currency,
                balance: entry.map(|entry| entry.balance_after),
                wallet_version: entry.map(|entry| entry.sequence),
            }),
        }
    }
}

/// Invoices that one wallet paid together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettledInvoices {
    /// Paid invoices, each with the ledger entry of its debit.
    pub paid: Vec<(Invoice, LedgerEntry)>,
    /// Whether the wallet could not pay one of the invoices. The invoices after it wait too.
    pub exhausted: bool,
}

impl SettledInvoices {
    /// Pays the OPEN invoices among `invoices` from `wallet`, in order, up to the first one for which too little money
    /// is available. Invoices in another currency are skipped, because the wallet can never pay them. The version of
    /// the wallet rises by at most one.
    pub fn settle(invoices: impl IntoIterator<Item = Invoice>, wallet: &mut Wallet, now: Instant) -> Self {
        let version = wallet.version;
        let mut settled = Self::default();
        for mut invoice in invoices.into_iter().filter(|invoice| invoice.status == InvoiceStatus::Open) {
            match invoice.settle(wallet, now) {
                Ok(entry) => settled.paid.push((invoice, entry)),
                Err(PaymentRefusal::CurrencyMismatch) => {}
                Err(PaymentRefusal::InsufficientFunds) => {
                    settled.exhausted = true;
                    break;
                }
            }
        }
        wallet.version = version + u64::from(!settled.paid.is_empty());
        settled
    }
}

/// More energy than any session draws, kWh. It bounds the calculation that a malformed event can cause.
const MOST_KWH: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);
/// Longer than any session lasts. It bounds the calculation, because the price engine looks at every day of a session.
const LONGEST: Duration = Duration::days(3660);

/// Prices an ended session after checking that its event is consistent.
fn priced(ended: &SessionEnded) -> Result<Bill, DomainError> {
    let mut checks = Checks::new();
    let time_zone: Option<Tz> = ended.time_zone.parse().ok();
    let within = |kwh: Decimal| (Decimal::ZERO..=MOST_KWH).contains(&kwh);
    let periods = &ended.charging_periods;
    checks
        .require(
            !ended.status.is_active(),
            "status",
            "must be COMPLETED or INTERRUPTED: a running session is not billed",
        )
        .require(time_zone.is_some(), "timeZone", "must be an IANA time zone")
        .require(
            (Duration::zero()..=LONGEST).contains(&(ended.ended_at - ended.started_at)),
            "endedAt",
            format!("must be from startedAt to {} days after it", LONGEST.num_days()),
        )
        .require(within(ended.energy_kwh), "energyKwh", format!("must be from 0 to {MOST_KWH}"))
        .require(
            periods.iter().all(|period| within(period.energy_kwh) && within(period.power_kw)),
            "chargingPeriods",
            format!("must have energyKwh and powerKw from 0 to {MOST_KWH}"),
        )
        .require(in_order(ended), "chargingPeriods", "must lie within the session, in order, without overlap");
    checks.take(ended.tariff.validate("tariff"))?;
    checks.finish()?;
    let periods: Vec<ChargingPeriod> = periods.iter().map(EventPeriod::metered).collect();
    let metered: Decimal = periods.iter().map(|period| period.kwh).sum();
    if metered != ended.energy_kwh.round_dp(3) {
        let message = format!("must add up to energyKwh ({}), not to {metered}", ended.energy_kwh);
        return Err(DomainError::invalid("chargingPeriods", message));
    }
    let price = price(&ended.tariff, time_zone.unwrap_or_default(), &periods);
    Ok(Bill::new(&price, ended.tariff.currency))
}

fn in_order(ended: &SessionEnded) -> bool {
    let mut at = ended.started_at;
    for period in &ended.charging_periods {
        if period.start < at || period.end < period.start {
            return false;
        }
        at = period.end;
    }
    at <= ended.ended_at
}
