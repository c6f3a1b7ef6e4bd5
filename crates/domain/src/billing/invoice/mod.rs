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

/// State of an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvoiceStatus {
    /// Waits for money.
    Open,
    /// Paid from its user's wallet.
    Paid,
    /// Credited as a whole.
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

/// How an invoice was paid.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment {
    /// What was due then: the total without what had been credited before.
    pub amount: Decimal,
    /// When.
    pub paid_at: Instant,
    /// Number of the ledger's entry; none where nothing was due.
    pub entry: Option<u64>,
}

/// An invoice: what a session costs its user, sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoice {
    /// Derived from the session's.
    pub id: InvoiceId,
    /// What it bills.
    pub session_id: SessionId,
    /// Who pays.
    pub user_id: UserId,
    /// Where it was charged.
    pub station_id: StationId,
    /// Its state.
    pub status: InvoiceStatus,
    /// Lines, VAT and totals.
    pub bill: Bill,
    /// The billed meter register, kWh.
    pub energy_kwh: Decimal,
    /// When charging started.
    pub started_at: Instant,
    /// When it ended.
    pub ended_at: Instant,
    /// When the invoice was issued.
    pub issued_at: Instant,
    /// Credited so far, including VAT.
    pub credited: Decimal,
    /// How it was paid, once it is.
    pub payment: Option<Payment>,
    /// Counts its changes.
    pub version: u64,
}

/// An invoice as it was issued, with all that is written together with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// PAID or OPEN.
    pub invoice: Invoice,
    /// The wallet, where it changed.
    pub wallet: Option<Wallet>,
    /// The debit, where it was paid.
    pub entry: Option<LedgerEntry>,
    /// What the session held of the wallet, which ends with its invoice.
    pub hold: Option<HoldEnd>,
    /// The event that it was issued.
    pub generated: InvoiceGenerated,
    /// The event of its payment.
    pub payment: PaymentOutcome,
}

impl Invoice {
    /// The invoice for an ended session, OPEN; none for a FAILED session, which is not billed.
    ///
    /// # Errors
    /// A validation error naming the fields when the event cannot be billed: an unknown time zone, periods that do not
    /// add up to the register or are out of order, a tariff out of range, a session that has not ended.
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

    /// What is still to be paid, including VAT.
    #[must_use]
    pub fn due(&self) -> Decimal {
        match self.status {
            InvoiceStatus::Open => self.bill.total_incl_vat - self.credited,
            InvoiceStatus::Paid | InvoiceStatus::Credited => self.bill.currency.round(Decimal::ZERO),
        }
    }

    /// Issues it: paid at once where enough is available in `wallet`, OPEN otherwise. What the session held is
    /// available to its invoice. Where nothing is due and nothing was held the wallet stays as it is.
    #[must_use]
    pub fn issue(mut self, mut wallet: Wallet, now: Instant) -> Issued {
        let amount = self.due();
        let hold = wallet.knows_hold(&self.session_id).then(|| wallet.end_hold(&self.session_id, now)).flatten();
        if amount.is_zero() {
            self.paid(amount, None, now);
            let (generated, payment) = (self.generated_event(), self.payment_event(None));
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
        let payment = self.payment_event(paid.as_ref().err().copied());
        let generated = self.generated_event();
        Issued { invoice: self, wallet: Some(wallet), entry: paid.ok(), hold, generated, payment }
    }

    /// Pays an OPEN invoice from `wallet`, and answers the ledger's entry.
    ///
    /// # Errors
    /// Why the wallet cannot pay; both are then as they were.
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

    /// Adds the total of a credit note, including VAT, to what was credited so far.
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

    /// The event that says how paying it went.
    #[must_use]
    pub fn payment_event(&self, refusal: Option<PaymentRefusal>) -> PaymentOutcome {
        let (invoice_id, session_id, user_id) = (self.id.clone(), self.session_id.clone(), self.user_id.clone());
        let currency = self.bill.currency;
        match refusal {
            Some(reason) => PaymentOutcome::Failed(PaymentFailed {
                invoice_id,
                session_id,
                user_id,
                amount: self.due(),
                currency,
                reason,
            }),
            None => PaymentOutcome::Completed(PaymentCompleted {
                invoice_id,
                session_id,
                user_id,
                amount: self.payment.as_ref().map(|payment| payment.amount).unwrap_or_default(),
                currency,
            }),
        }
    }
}

/// Invoices that one wallet paid together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettledInvoices {
    /// Each with the entry of its debit.
    pub paid: Vec<(Invoice, LedgerEntry)>,
    /// Whether the wallet could not pay one of them: those after it wait as well.
    pub exhausted: bool,
}

impl SettledInvoices {
    /// Pays those of `invoices` that are OPEN from `wallet`, in their order, up to the first for which too little is
    /// available. Those in another currency are passed over: the wallet never pays them. The wallet changes once.
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

/// More than any session draws, kWh. Bounds what a malformed event can make the price engine compute.
const MOST_KWH: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);
/// Longer than any session lasts; the price engine looks at every day of it.
const LONGEST: Duration = Duration::days(3660);

/// Prices an ended session by the one price engine, after checking that its event is consistent in itself.
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
