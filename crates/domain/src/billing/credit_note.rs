use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invoice::{Invoice, InvoiceStatus};
use super::wallet::LedgerEntry;
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
    /// Number of the line on the invoice, from 1.
    #[schemars(range(min = 1, max = 100))]
    pub line: u32,
    /// Net amount to credit. If absent, everything that is left of the line is credited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_amount_schema")]
    pub net_amount: Option<Decimal>,
}

/// A credited line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditedLine {
    /// Number of the line on the invoice, from 1.
    pub line: u32,
    /// Credited amount excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub net_amount: Decimal,
    /// VAT rate, %.
    #[schemars(schema_with = "decimal_schema")]
    pub vat_rate: Decimal,
}

/// A credit note: a correction of a sealed invoice. Its amounts are what is given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditNote {
    /// Id of the credit note.
    pub credit_note_id: CreditNoteId,
    /// Id of the invoice that is corrected.
    pub invoice_id: InvoiceId,
    /// Why the invoice is corrected.
    pub reason: String,
    /// Currency of every amount.
    pub currency: Currency,
    /// Credited lines of the invoice, with the amount credited of each.
    pub lines: Vec<CreditedLine>,
    /// VAT amounts, one per rate.
    pub vat: Vec<VatLine>,
    /// Sum of the lines' net amounts.
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    /// Sum of the lines' net amounts and of the VAT amounts.
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
    /// Amount paid back to the wallet: the total if the invoice was paid, otherwise zero.
    #[schemars(schema_with = "amount_schema")]
    pub refunded: Decimal,
    /// When the credit note was issued.
    pub issued_at: Instant,
}

impl Invoice {
    /// Credits the `wanted` lines, or everything that `earlier` credit notes left, and returns the credit note.
    ///
    /// VAT is rounded once per rate, as on the invoice. The credit note that credits the last amount of a rate takes
    /// all VAT that is left of that rate. Credit notes for a whole invoice therefore add up to it exactly.
    ///
    /// # Errors
    /// `Forbidden` unless the role is ADMIN; `Conflict` if the invoice has already been credited in full; `Validation`
    /// if the invoice has no such line or an amount is above what is left.
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

/// An invoice was credited, in full or in part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditNoteIssued {
    /// Id of the credit note.
    pub credit_note_id: CreditNoteId,
    /// Id of the credited invoice.
    pub invoice_id: InvoiceId,
    /// Id of the session that the invoice bills.
    pub session_id: SessionId,
    /// Id of the user who owns the invoice.
    pub user_id: UserId,
    /// Credited amount, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// Part of the credited amount that was paid back to the wallet.
    #[schemars(schema_with = "amount_schema")]
    pub refunded: Decimal,
    /// Currency of the amounts and of the balance.
    pub currency: Currency,
    /// Balance of the wallet after the refund. Absent if nothing was refunded, and from events that were written before
    /// the field existed.
    #[schemars(schema_with = "amount_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Decimal>,
    /// Version of the wallet after the refund: the number of its ledger entries. Absent if there is no `balance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_version: Option<u64>,
}

impl CreditNote {
    /// Returns the event of the credit note's issue. `refund` is the ledger entry of the refund, if there is one.
    #[must_use]
    pub fn issued_event(&self, invoice: &Invoice, refund: Option<&LedgerEntry>) -> CreditNoteIssued {
        CreditNoteIssued {
            credit_note_id: self.credit_note_id.clone(),
            invoice_id: self.invoice_id.clone(),
            session_id: invoice.session_id.clone(),
            user_id: invoice.user_id.clone(),
            amount: self.total_incl_vat,
            refunded: self.refunded,
            currency: self.currency,
            balance: refund.map(|entry| entry.balance_after),
            wallet_version: refund.map(|entry| entry.sequence),
        }
    }
}

/// The amounts that earlier credit notes left of an invoice.
struct Left<'a> {
    invoice: &'a Invoice,
    /// Net amount left of each line.
    net: Vec<Decimal>,
    /// VAT left of each rate.
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

    /// Refuses to credit more at a VAT rate than is left of all lines at that rate. A line that a price bound lowered
    /// shows more than was charged. The amount left is therefore never negative, and everything that is left can be
    /// credited.
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
