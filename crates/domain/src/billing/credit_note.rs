use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invoice::{Invoice, InvoiceStatus};
use crate::Instant;
use crate::actor::Role;
use crate::charging::tariff::VatLine;
use crate::error::{Checks, DomainError};
use crate::id::{CreditNoteId, InvoiceId, SessionId, UserId};
use crate::machine::State;
use crate::money::{Currency, amount_schema, decimal_schema, optional_amount_schema};

/// A line of an invoice that is to be credited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditLine {
    /// Its number on the invoice, from 1.
    #[schemars(range(min = 1, max = 100))]
    pub line: u32,
    /// How much of its net amount; all that is left of it unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_amount_schema")]
    pub net_amount: Option<Decimal>,
}

/// A credited line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditedLine {
    /// Its number on the invoice, from 1.
    pub line: u32,
    /// Excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub net_amount: Decimal,
    /// VAT, %.
    #[schemars(schema_with = "decimal_schema")]
    pub vat_rate: Decimal,
}

/// A correction of a sealed invoice. Its amounts are what is given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditNote {
    /// Its id.
    pub credit_note_id: CreditNoteId,
    /// What it corrects.
    pub invoice_id: InvoiceId,
    /// Why.
    pub reason: String,
    /// Of every amount.
    pub currency: Currency,
    /// What is credited of which line.
    pub lines: Vec<CreditedLine>,
    /// VAT per rate.
    pub vat: Vec<VatLine>,
    /// Sum of the lines.
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    /// Sum of the lines and of the VAT.
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
    /// What went back to the wallet: the total for an invoice that was paid, nothing for one that was not.
    #[schemars(schema_with = "amount_schema")]
    pub refunded: Decimal,
    /// When it was issued.
    pub issued_at: Instant,
}

impl Invoice {
    /// Credits `wanted` lines, or all that `earlier` notes left, and answers the note.
    ///
    /// VAT is rounded once per rate as on the invoice; the note that credits the last of a rate takes all that is left
    /// of its VAT, so that notes on a whole invoice add up to it, to the cent.
    ///
    /// # Errors
    /// Forbidden but for ADMIN; a conflict when it is credited already; validation errors for lines it does not have or
    /// amounts beyond what is left.
    pub fn credit(
        &mut self,
        id: CreditNoteId,
        earlier: &[CreditNote],
        wanted: Option<&[CreditLine]>,
        reason: String,
        role: Role,
        now: Instant,
    ) -> Result<CreditNote, DomainError> {
        self.status.transition(InvoiceStatus::Credited, role)?;
        let left = Left::of(self, earlier);
        let lines = left.take(wanted)?;
        let vat = left.vat(&lines);
        let currency = self.bill.currency;
        let net: Decimal = lines.iter().map(|line| line.net_amount).sum();
        let total = net + vat.iter().map(|vat| vat.amount).sum::<Decimal>();
        if total <= Decimal::ZERO || net < Decimal::ZERO {
            return Err(DomainError::invalid("lines", "must add up to an amount above 0"));
        }
        let most = self.bill.total_incl_vat - self.credited;
        if total > most {
            return Err(DomainError::invalid("lines", format!("credit {total} {currency}, but only {most} is left")));
        }
        left.allow(&lines)?;
        let paid = self.payment.is_some();
        let note = CreditNote {
            credit_note_id: id,
            invoice_id: self.id.clone(),
            reason,
            currency,
            lines,
            vat,
            total_excl_vat: currency.round(net),
            total_incl_vat: currency.round(total),
            refunded: currency.round(if paid { total } else { Decimal::ZERO }),
            issued_at: now,
        };
        self.add_credit(note.total_incl_vat);
        Ok(note)
    }
}

/// An invoice was credited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct CreditNoteIssued {
    pub credit_note_id: CreditNoteId,
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What was credited, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// What of it went back to the wallet.
    #[schemars(schema_with = "amount_schema")]
    pub refunded: Decimal,
    pub currency: Currency,
}

impl CreditNote {
    /// The event that says it was issued.
    #[must_use]
    pub fn issued_event(&self, invoice: &Invoice) -> CreditNoteIssued {
        CreditNoteIssued {
            credit_note_id: self.credit_note_id.clone(),
            invoice_id: self.invoice_id.clone(),
            session_id: invoice.session_id.clone(),
            user_id: invoice.user_id.clone(),
            amount: self.total_incl_vat,
            refunded: self.refunded,
            currency: self.currency,
        }
    }
}

/// What earlier notes left of an invoice.
struct Left<'a> {
    invoice: &'a Invoice,
    /// Net, per line.
    net: Vec<Decimal>,
    /// VAT, per rate.
    vat: BTreeMap<Decimal, Decimal>,
}

impl<'a> Left<'a> {
    fn of(invoice: &'a Invoice, earlier: &[CreditNote]) -> Self {
        let mut net: Vec<Decimal> = invoice.bill.lines.iter().map(|line| line.net_amount).collect();
        let mut vat: BTreeMap<Decimal, Decimal> = BTreeMap::new();
        for line in &invoice.bill.vat {
            *vat.entry(line.rate).or_default() += line.amount;
        }
        for note in earlier {
            for line in &note.lines {
                if let Some(net) = net.get_mut(line.line as usize - 1) {
                    *net -= line.net_amount;
                }
            }
            for line in &note.vat {
                *vat.entry(line.rate).or_default() -= line.amount;
            }
        }
        Self { invoice, net, vat }
    }

    fn take(&self, wanted: Option<&[CreditLine]>) -> Result<Vec<CreditedLine>, DomainError> {
        let Some(wanted) = wanted else {
            let all = (1..).zip(&self.net).filter(|(_, net)| !net.is_zero());
            return Ok(all.map(|(line, net)| self.credited(line, *net)).collect());
        };
        let mut checks = Checks::new();
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        for (index, line) in wanted.iter().enumerate() {
            let field = |name: &str| format!("lines[{index}].{name}");
            let left = usize::try_from(line.line).ok().and_then(|number| self.net.get(number.checked_sub(1)?)).copied();
            let Some(left) = left.filter(|_| seen.insert(line.line)) else {
                checks.require(false, field("line"), format!("must be from 1 to {}, each once", self.net.len()));
                continue;
            };
            let amount = line.net_amount.unwrap_or(left);
            let currency = self.invoice.bill.currency;
            let within = amount.abs() <= left.abs() && (amount * left) > Decimal::ZERO;
            checks
                .require(within, field("netAmount"), format!("must be up to what is left of the line, {left}"))
                .require(
                    currency.round(amount) == amount,
                    field("netAmount"),
                    format!("must have at most {} decimals", currency.minor_digits()),
                );
            lines.push(self.credited(line.line, amount));
        }
        checks.require(!wanted.is_empty(), "lines", "must name a line; without lines all is credited");
        checks.finish()?;
        Ok(lines)
    }

    fn credited(&self, line: u32, net_amount: Decimal) -> CreditedLine {
        let vat_rate = self.invoice.bill.lines[line as usize - 1].vat_rate;
        CreditedLine { line, net_amount: self.invoice.bill.currency.round(net_amount), vat_rate }
    }

    /// Refuses to credit more at a rate of VAT than is left of all lines at it: a line that a bound of the price lowered
    /// shows more than was asked for. So nothing is ever left that is negative, and what is left can be credited.
    fn allow(&self, lines: &[CreditedLine]) -> Result<(), DomainError> {
        let mut left: BTreeMap<Decimal, Decimal> = BTreeMap::new();
        for (line, net) in self.invoice.bill.lines.iter().zip(&self.net) {
            *left.entry(line.vat_rate).or_default() += net;
        }
        let mut checks = Checks::new();
        for (rate, most) in left {
            let net: Decimal = lines.iter().filter(|line| line.vat_rate == rate).map(|line| line.net_amount).sum();
            let message = format!("credit {net} at {rate} % VAT, but only {most} of that is left");
            checks.require(net <= most, "lines", message);
        }
        checks.finish()
    }

    fn vat(&self, lines: &[CreditedLine]) -> Vec<VatLine> {
        let credited = |line: usize| -> Decimal {
            lines.iter().filter(|credit| credit.line as usize == line + 1).map(|credit| credit.net_amount).sum()
        };
        let nothing_left = |rate: Option<Decimal>| {
            let own = self.invoice.bill.lines.iter().enumerate();
            own.filter(|(_, line)| rate.is_none_or(|rate| line.vat_rate == rate))
                .all(|(index, _)| self.net[index] == credited(index))
        };
        let whole = nothing_left(None);
        let currency = self.invoice.bill.currency;
        let amounts = self.vat.iter().map(|(rate, left)| {
            let base: Decimal = lines.iter().filter(|line| line.vat_rate == *rate).map(|line| line.net_amount).sum();
            let share = currency.round(base * *rate / Decimal::ONE_HUNDRED);
            let amount = if whole || (!base.is_zero() && nothing_left(Some(*rate))) {
                *left
            } else if left.is_sign_negative() {
                share.max(*left)
            } else {
                share.min(*left)
            };
            VatLine { rate: *rate, amount: currency.round(amount) }
        });
        amounts.filter(|vat| !vat.amount.is_zero()).collect()
    }
}
