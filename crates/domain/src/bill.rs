//! What an invoice prints for a price: amounts rounded as EN 16931 rounds them.
//!
//! Line net amounts are rounded to the currency's minor unit, VAT once per rate on the sum of its lines, half away from
//! zero; every total is a sum of what is printed. Where a tariff's minimum or maximum price holds, one adjustment line
//! brings the totals there, so that they stay sums.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::{Currency, amount_schema, decimal_schema};
use crate::tariff::{Dimension, Price};

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
        let mut vat = vat_per_rate(&lines, currency);
        let exact_net: Decimal = price.lines.iter().map(|line| line.net).sum();
        let exact_vat: Decimal =
            price.lines.iter().map(|l| l.net * (l.vat_rate.unwrap_or_default() / Decimal::ONE_HUNDRED)).sum();
        if price.excl_vat != exact_net || price.incl_vat != exact_net + exact_vat {
            adjust(price, currency, &mut lines, &mut vat);
        }
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

fn vat_per_rate(lines: &[BillLine], currency: Currency) -> Vec<VatLine> {
    let mut bases: BTreeMap<Decimal, Decimal> = BTreeMap::new();
    for line in lines {
        *bases.entry(line.vat_rate).or_default() += line.net_amount;
    }
    bases
        .into_iter()
        .filter(|(rate, _)| !rate.is_zero())
        .map(|(rate, base)| VatLine { rate, amount: currency.round(base * rate / Decimal::ONE_HUNDRED) })
        .collect()
}

/// Adds the line that brings the totals to the bound that holds, with its VAT.
fn adjust(price: &Price, currency: Currency, lines: &mut Vec<BillLine>, vat: &mut Vec<VatLine>) {
    let net: Decimal = lines.iter().map(|line| line.net_amount).sum();
    let tax: Decimal = vat.iter().map(|line| line.amount).sum();
    let net_change = currency.round(price.excl_vat) - net;
    let tax_change = currency.round(price.incl_vat) - currency.round(price.excl_vat) - tax;
    if net_change.is_zero() && tax_change.is_zero() {
        return;
    }
    let rate = if net_change.is_zero() {
        Decimal::ZERO
    } else {
        (tax_change * Decimal::ONE_HUNDRED / net_change).round_dp(2).normalize()
    };
    let dimension =
        if net_change + tax_change > Decimal::ZERO { BillDimension::MinPrice } else { BillDimension::MaxPrice };
    lines.push(BillLine {
        dimension,
        quantity: Decimal::ONE,
        unit: dimension.unit().to_owned(),
        unit_price: net_change,
        net_amount: net_change,
        vat_rate: rate,
    });
    if !tax_change.is_zero() {
        vat.push(VatLine { rate, amount: tax_change });
    }
}
