//! What an invoice prints for a price: amounts rounded as EN 16931 rounds them.
//!
//! Line net amounts are rounded to the currency's minor unit, VAT once per rate on the sum of its lines, half away from
//! zero; every total is a sum of what is printed. Where a tariff's minimum or maximum price holds, an adjustment line for
//! each rate of VAT brings the totals there, so that they stay sums. The bounds hold for what is printed: where only the
//! rounding of the lines passes one, that is adjusted too.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::charging::tariff::{Bounds, ChargingPeriod, Dimension, PeriodState, Price, Tariff, price};
use crate::money::{Currency, amount_schema, decimal_schema};

/// A priced session as an invoice issued now would print it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    /// Currency of every amount.
    pub currency: Currency,
    /// The lines.
    pub lines: Vec<BillLine>,
    /// VAT per rate.
    pub vat: Vec<VatLine>,
    /// Sum of the lines.
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    /// Sum of the lines and of the VAT.
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BillLine {
    /// What is billed.
    pub dimension: BillDimension,
    /// How much of it, in `unit`.
    #[schemars(schema_with = "decimal_schema")]
    pub quantity: Decimal,
    /// kWh, h or session.
    pub unit: String,
    /// Price per unit, excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub unit_price: Decimal,
    /// Rounded, excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub net_amount: Decimal,
    /// VAT, %.
    #[schemars(schema_with = "decimal_schema")]
    pub vat_rate: Decimal,
}

/// VAT of one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VatLine {
    /// VAT, %.
    #[schemars(schema_with = "decimal_schema")]
    pub rate: Decimal,
    /// Rounded.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
}

/// What a line bills: a tariff dimension, or the way to a bound of the price.
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
    /// The bill for `price`.
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
    /// A line that brings the net amount of `vat_rate` to its share of a bound.
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

/// Net amounts by VAT rate (%), rounded.
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

    /// VAT per rate other than zero, each rounded once.
    fn vat(&self, currency: Currency) -> BTreeMap<Decimal, Decimal> {
        let taxed = self.0.iter().filter(|(rate, _)| !rate.is_zero());
        taxed.map(|(rate, net)| (*rate, currency.round(net * rate / Decimal::ONE_HUNDRED))).collect()
    }

    /// These amounts, brought to `net` with a VAT of `tax`.
    ///
    /// They keep their rates and proportions if that gives the VAT up to what rounding makes of it. Otherwise the bound
    /// states a VAT of its own: one between the lowest and the highest rate divides the net amount among these two;
    /// any other one is the rate of the whole amount.
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

    /// By how much each rate differs from `before`, where it does.
    fn since(&self, before: &Self) -> impl Iterator<Item = (Decimal, Decimal)> {
        let mut changes = self.0.clone();
        for (rate, net) in &before.0 {
            *changes.entry(*rate).or_default() -= net;
        }
        changes.into_iter().filter(|(_, change)| !change.is_zero())
    }

    /// Whether the VAT of these amounts is `tax`, up to a minor unit for each rate.
    fn reaches(&self, tax: Decimal, currency: Currency) -> bool {
        let vat = self.vat(currency);
        let left = tax - vat.values().sum::<Decimal>();
        let most = Decimal::new(1, currency.minor_digits()) * Decimal::from(vat.len());
        let largest = vat.values().max().copied().unwrap_or_default();
        left.abs() <= most && largest + left >= Decimal::ZERO
    }

    /// The VAT per rate. What its sum differs from `tax` by rounding is in the largest entry.
    fn vat_adding_up_to(&self, tax: Decimal, currency: Currency) -> Vec<VatLine> {
        let mut vat = self.vat(currency);
        let left = tax - vat.values().sum::<Decimal>();
        if let Some(largest) = vat.values_mut().max() {
            *largest += left;
        }
        vat.into_iter().map(|(rate, amount)| VatLine { rate, amount: currency.round(amount) }).collect()
    }
}

/// The least that `tariff` charges for a session that starts at `start`, including VAT, as an invoice prints it.
///
/// It is the bill of a session that ends when it starts: a fee for the session that applies at that moment, and the
/// minimum price. Energy and time add nothing to it, since a session that reaches a limit of its cost is stopped before.
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
