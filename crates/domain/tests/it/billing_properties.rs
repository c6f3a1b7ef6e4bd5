//! Credit notes on random invoices: in any order of crediting, the credit notes on a whole invoice add up to it
//! exactly.

use std::collections::BTreeMap;

use domain::actor::Role;
use domain::billing::{CreditLine, CreditNote, Invoice, InvoiceStatus, Wallet};
use domain::charging::session::{EndReason, SessionStatus};
use domain::charging::session::{EventPeriod, SessionEnded};
use domain::charging::tariff::Bill;
use domain::charging::tariff::{PeriodState, PriceBound, Tariff};
use domain::id::{CreditNoteId, InvoiceId, PortId, SessionId, StationId, UserId};
use proptest::prelude::*;
use proptest::sample::Index;
use rust_decimal::Decimal;
use serde_json::json;

use crate::random::seeded;

fn at(text: &str) -> domain::Instant {
    text.parse().unwrap()
}

/// A price bound in cents, and the VAT on it in percent if it is stated.
type CentsAndVat = Option<(u32, Option<u32>)>;

fn bound() -> impl Strategy<Value = CentsAndVat> {
    prop::option::weighted(0.3, (1..4000u32, prop::option::of(prop::sample::select(vec![0, 7, 12, 19, 40]))))
}

/// An invoice for half an hour, with prices in tenths of a cent, three VAT rates, and price bounds.
fn invoice(prices: [u32; 3], rates: [u32; 3], watt_hours: u32, min: CentsAndVat, max: CentsAndVat) -> Invoice {
    let component = |kind: &str, n: usize| json!({ "type": kind, "price": Decimal::new(prices[n].into(), 3), "vat": Decimal::from(rates[n]), "step_size": 1 });
    let components = [component("FLAT", 0), component("ENERGY", 1), component("TIME", 2)];
    let bound = |bound: CentsAndVat| {
        bound.map(|(cents, vat)| PriceBound {
            excl_vat: Decimal::new(cents.into(), 2),
            incl_vat: vat.map(|vat| Decimal::new(i64::from(cents) * i64::from(100 + vat), 4).round_dp(2)),
        })
    };
    let tariff: Tariff =
        serde_json::from_value(json!({ "currency": "EUR", "elements": [{ "price_components": components }],
        "min_price": bound(min), "max_price": bound(max) }))
        .unwrap();
    let (start, end) = (at("2026-02-22T10:00:00Z"), at("2026-02-22T10:30:00Z"));
    let energy_kwh = Decimal::new(watt_hours.into(), 3);
    let ended = SessionEnded {
        session_id: SessionId::new("s-1").unwrap(),
        user_id: UserId::new("u-1").unwrap(),
        station_id: StationId::new("station-1").unwrap(),
        port_id: PortId::new("port-1").unwrap(),
        status: SessionStatus::Completed,
        reason: EndReason::TargetReached,
        energy_kwh,
        duration_minutes: 30.0,
        started_at: start,
        ended_at: end,
        tariff,
        time_zone: "UTC".to_owned(),
        charging_periods: vec![EventPeriod {
            start,
            end,
            state: PeriodState::Charging,
            energy_kwh,
            power_kw: energy_kwh * Decimal::TWO,
        }],
        version: None,
        station_version: None,
        port_status: None,
    };
    Invoice::for_session(&ended, end).unwrap().unwrap()
}

fn by_rate(amounts: impl IntoIterator<Item = (Decimal, Decimal)>) -> BTreeMap<Decimal, Decimal> {
    let mut sums = BTreeMap::new();
    for (rate, amount) in amounts {
        *sums.entry(rate).or_insert(Decimal::ZERO) += amount;
    }
    sums.retain(|_, sum| !sum.is_zero());
    sums
}

fn vat(bill: &Bill) -> BTreeMap<Decimal, Decimal> {
    by_rate(bill.vat.iter().map(|vat| (vat.rate, vat.amount)))
}

proptest! {
    #![proptest_config(seeded(1000))]

    #[test]
    fn credit_notes_on_a_whole_invoice_add_up_to_it(
        prices in [1..5000u32, 1..900u32, 1..3000u32],
        rates in [prop::sample::select(vec![7, 19]), prop::sample::select(vec![0, 19]), prop::sample::select(vec![7, 19, 25])],
        watt_hours in 1..90_000u32,
        (min, max) in (bound(), bound()),
        paid in any::<bool>(),
        parts in prop::collection::vec((any::<Index>(), 1..100u32), 0..8),
    ) {
        let now = at("2026-02-22T11:00:00Z");
        // A tariff with a minimum price above its maximum price is not valid.
        let max = max.map(|(cents, vat)| (cents + min.map_or(0, |(min, _)| min * 2), vat));
        let invoice = invoice(prices, rates, watt_hours, min, max);
        let whole_lines = invoice.bill.lines.iter().all(|line| line.net_amount.is_sign_positive());
        let mut wallet = Wallet::open(invoice.user_id.clone(), invoice.bill.currency, now);
        if paid {
            wallet.top_up(Decimal::from(1_000_000), invoice.bill.currency, "t".to_owned(), now).unwrap();
        }
        let before = wallet.balance;
        let issued = invoice.issue(wallet.clone(), now);
        let mut invoice = issued.invoice;
        let mut wallet = issued.wallet.unwrap_or(wallet);
        let mut notes: Vec<CreditNote> = Vec::new();
        let mut credit = |invoice: &mut Invoice, notes: &mut Vec<CreditNote>, lines: Option<Vec<CreditLine>>| {
            let id = CreditNoteId::for_key(&InvoiceId::of(&invoice.session_id), &notes.len().to_string());
            let note = invoice.credit(id, notes, lines.as_deref(), "r".to_owned(), Role::Admin, now)?;
            if !note.refunded.is_zero() {
                wallet.refund(note.credit_note_id.to_string(), note.refunded, now);
            }
            notes.push(note);
            Ok::<_, domain::error::DomainError>(())
        };
        for (line, share) in parts {
            let number = line.index(invoice.bill.lines.len());
            let part = invoice.bill.lines[number].net_amount * Decimal::from(share) / Decimal::ONE_HUNDRED;
            let line = CreditLine { line: u32::try_from(number + 1).unwrap(), net_amount: Some(invoice.bill.currency.round(part)) };
            // Crediting more than is left is refused and changes nothing.
            let (unchanged, count) = (invoice.clone(), notes.len());
            if credit(&mut invoice, &mut notes, Some(vec![line])).is_err() {
                prop_assert_eq!((&invoice, notes.len()), (&unchanged, count));
            }
        }
        if invoice.status != InvoiceStatus::Credited {
            prop_assert!(credit(&mut invoice, &mut notes, None).is_ok(), "the rest can be credited: {:?} {:?}", invoice, notes);
        }
        prop_assert_eq!(invoice.status, InvoiceStatus::Credited);
        prop_assert_eq!(invoice.credited, invoice.bill.total_incl_vat);
        let credited = by_rate(notes.iter().flat_map(|note| note.vat.iter().map(|vat| (vat.rate, vat.amount))));
        prop_assert_eq!(credited, vat(&invoice.bill), "VAT, rate by rate");
        let nets = by_rate(notes.iter().flat_map(|note| note.lines.iter().map(|line| (line.vat_rate, line.net_amount))));
        prop_assert_eq!(nets, by_rate(invoice.bill.lines.iter().map(|line| (line.vat_rate, line.net_amount))), "net, rate by rate");
        // A line that a price bound lowered need not be credited beyond the amount that was charged.
        for (number, line) in (1..).zip(&invoice.bill.lines).filter(|_| whole_lines) {
            let net: Decimal = notes.iter().flat_map(|note| &note.lines).filter(|credited| credited.line == number).map(|credited| credited.net_amount).sum();
            prop_assert_eq!(net, line.net_amount);
        }
        for note in &notes {
            prop_assert_eq!(note.total_excl_vat, note.lines.iter().map(|line| line.net_amount).sum::<Decimal>());
            prop_assert_eq!(note.total_incl_vat, note.total_excl_vat + note.vat.iter().map(|vat| vat.amount).sum::<Decimal>());
            prop_assert!(note.total_incl_vat > Decimal::ZERO);
        }
        prop_assert_eq!(wallet.balance, before, "the paid amount was refunded exactly");
    }
}
