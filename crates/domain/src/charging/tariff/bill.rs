//! The content of an invoice for a price: amounts rounded according to EN 16931.
//!
//! The net amount of each line is rounded to the currency's minor unit. VAT is rounded once per rate, on the sum of
//! that rate's lines. Both are rounded half away from zero. Every total is a sum of printed amounts. Where the minimum
//! or maximum price of a tariff applies, an adjustment line for each VAT rate brings the totals to the bound, so that
//! they remain sums. The bounds apply to the printed amounts: if only the rounding of the lines passes a bound, that is
//! adjusted too.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::charging::tariff::{Bounds, ChargingPeriod, Dimension, PeriodState, Price, Tariff, price};
use crate::money::{Currency, amount_schema, decimal_schema};

/// A priced session, with the content that an invoice issued now would show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    /// Currency of every amount.
    pub currency: Currency,
    /// Billed lines.
    pub lines: Vec<BillLine>,
    /// VAT amounts, one per rate.
    pub vat: Vec<VatLine>,
    /// Sum of the lines' net amounts.
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    /// Sum of the lines' net amounts and of the VAT amounts.
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BillLine {
    /// What the line bills.
    pub dimension: BillDimension,
    /// Billed quantity, in `unit`.
    #[schemars(schema_with = "decimal_schema")]
    pub quantity: Decimal,
    /// Unit of the quantity: kWh, h or session.
    pub unit: String,
    /// Price per unit, excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub unit_price: Decimal,
    /// Rounded amount excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub net_amount: Decimal,
    /// VAT rate, %.
    #[schemars(schema_with = "decimal_schema")]
    pub vat_rate: Decimal,
}

/// VAT of one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VatLine {
    /// VAT rate, %.
    #[schemars(schema_with = "decimal_schema")]
    pub rate: Decimal,
    /// Rounded VAT amount.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
}

/// What a line bills: a dimension of the tariff, or the adjustment to a price bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum BillDimension {
    Flat,
    Energy,
    Time,
    ParkingTime,
    MinPrice,
    MaxPrice,
}

impl From<Dimension> for BillDimension {
    fn from(dimension: Dimension) -> Self {
        match dimension {
            Dimension::Flat => Self::Flat,
            Dimension::Energy => Self::Energy,
            Dimension::Time => Self::Time,
            Dimension::ParkingTime => Self::ParkingTime,
        }
    }
}

impl BillDimension {
    fn unit(self) -> &'static str {
        match self {
            Self::Energy => "kWh",
            Self::Time | Self::ParkingTime => "h",
            Self::Flat | Self::MinPrice | Self::MaxPrice => "session",
        }
    }
}

impl Bill {
    /// Creates the bill for `price`.
    #[must_use]
    pub fn new(price: &Price, currency: Currency) -> Self {
        let mut lines: Vec<BillLine> = price
            .lines
            .iter()
            .map(|line| BillLine {
                dimension: line.dimension.into(),
                quantity: line.quantity.round_dp(6).normalize(),
                unit: BillDimension::from(line.dimension).unit().to_owned(),
                unit_price: line.unit_price,
                net_amount: currency.round(line.net),
                vat_rate: line.vat_rate.unwrap_or_default().normalize(),
            })
            .collect();
        let nets = Nets::of(&lines);
        let (net, gross) = (nets.sum(), nets.sum() + nets.vat(currency).values().sum::<Decimal>());
        let (bounded_net, bounded_gross) = price.bounds.hold(net, gross, |amount| currency.round(amount));
        let held = if (bounded_net, bounded_gross) == (net, gross) {
            nets
        } else {
            let dimension = if (bounded_net, bounded_gross) > (net, gross) {
                BillDimension::MinPrice
            } else {
                BillDimension::MaxPrice
            };
            let divided = nets.divide(&price.bounds, bounded_net, bounded_gross - bounded_net, currency);
            lines.extend(divided.since(&nets).map(|(rate, change)| BillLine::adjustment(dimension, rate, change)));
            Nets::of(&lines)
        };
        let vat = held.vat_adding_up_to(bounded_gross - bounded_net, currency);
        let total_excl_vat: Decimal = lines.iter().map(|line| line.net_amount).sum();
        let total_vat: Decimal = vat.iter().map(|line| line.amount).sum();
        Self {
            currency,
            total_excl_vat: currency.round(total_excl_vat),
            total_incl_vat: currency.round(total_excl_vat + total_vat),
            lines,
            vat,
        }
    }
}

impl BillLine {
    /// Creates the line that adjusts the net amount of `vat_rate` to its share of a bound.
    fn adjustment(dimension: BillDimension, vat_rate: Decimal, change: Decimal) -> Self {
        Self {
            dimension,
            quantity: Decimal::ONE,
            unit: dimension.unit().to_owned(),
            unit_price: change,
            net_amount: change,
            vat_rate,
        }
    }
}

/// Rounded net amounts by VAT rate (%).
struct Nets(BTreeMap<Decimal, Decimal>);

impl Nets {
    fn of(lines: &[BillLine]) -> Self {
        let mut nets: BTreeMap<Decimal, Decimal> = BTreeMap::new();
        for line in lines {
            *nets.entry(line.vat_rate).or_default() += line.net_amount;
        }
        Self(nets)
    }

    fn sum(&self) -> Decimal {
        self.0.values().sum()
    }

    /// Returns the VAT of every rate other than zero, each rounded once.
    fn vat(&self, currency: Currency) -> BTreeMap<Decimal, Decimal> {
        let taxed = self.0.iter().filter(|(rate, _)| !rate.is_zero());
        taxed.map(|(rate, net)| (*rate, currency.round(net * rate / Decimal::ONE_HUNDRED))).collect()
    }

    /// Returns these amounts adjusted so that they add up to `net` with a VAT of `tax`.
    ///
    /// The amounts keep their rates and proportions if that gives the VAT, apart from rounding. Otherwise the bound
    /// states a VAT of its own. If that VAT lies between what the lowest and the highest rate give, the net amount is
    /// divided among these two rates. If not, a rate computed from the VAT applies to the whole amount.
    fn divide(&self, bounds: &Bounds, net: Decimal, tax: Decimal, currency: Currency) -> Self {
        let round = |amount| currency.round(amount);
        let kept = if net == self.sum() { Self(self.0.clone()) } else { Self(bounds.divide(net, round)) };
        if kept.reaches(tax, currency) {
            return kept;
        }
        let percent = tax * Decimal::ONE_HUNDRED;
        let rates = kept.0.keys().next().zip(kept.0.keys().next_back());
        if let Some((lowest, highest)) = rates.filter(|(low, high)| low < high)
            && (lowest * net..=highest * net).contains(&percent)
        {
            let at_highest = currency.round((percent - lowest * net) / (highest - lowest));
            return Self(BTreeMap::from([(*lowest, net - at_highest), (*highest, at_highest)]));
        }
        let stated = percent.checked_div(net).and_then(|rate| rate.round_sf(6)).unwrap_or_default();
        Self(BTreeMap::from([(stated.normalize(), net)]))
    }

    /// Returns the rates whose amount differs from `before`, each with the difference.
    fn since(&self, before: &Self) -> impl Iterator<Item = (Decimal, Decimal)> {
        let mut changes = self.0.clone();
        for (rate, net) in &before.0 {
            *changes.entry(*rate).or_default() -= net;
        }
        changes.into_iter().filter(|(_, change)| !change.is_zero())
    }

    /// Returns whether the VAT of these amounts is `tax`, with a tolerance of one minor unit per rate.
    fn reaches(&self, tax: Decimal, currency: Currency) -> bool {
        let vat = self.vat(currency);
        let left = tax - vat.values().sum::<Decimal>();
        let most = Decimal::new(1, currency.minor_digits()) * Decimal::from(vat.len());
        let largest = vat.values().max().copied().unwrap_or_default();
        left.abs() <= most && largest + left >= Decimal::ZERO
    }

    /// Returns the VAT per rate. A rounding difference between the sum and `tax` is added to the largest amount.
    fn vat_adding_up_to(&self, tax: Decimal, currency: Currency) -> Vec<VatLine> {
        let mut vat = self.vat(currency);
        let left = tax - vat.values().sum::<Decimal>();
        if let Some(largest) = vat.values_mut().max() {
            *largest += left;
        }
        vat.into_iter().map(|(rate, amount)| VatLine { rate, amount: currency.round(amount) }).collect()
    }
}

/// Returns the least price, including VAT, of a session that starts at `start`, as an invoice would show it.
///
/// It is the bill of a session that ends when it starts: the session fee that applies at that moment, and the minimum
/// price. Energy and time add nothing to the least price, because a session is stopped before they raise the cost above
/// its limit.
#[must_use]
pub fn least_price(tariff: &Tariff, time_zone: Tz, start: Instant) -> Decimal {
    let nothing = ChargingPeriod {
        start,
        end: start,
        state: PeriodState::Charging,
        kwh: Decimal::ZERO,
        power_kw: Some(Decimal::ZERO),
        current_a: None,
    };
    Bill::new(&price(tariff, time_zone, &[nothing]), tariff.currency).total_incl_vat
}
