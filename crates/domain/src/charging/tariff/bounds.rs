use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{PriceBound, Tariff};

/// Net amounts by VAT rate (%). Only their ratio matters, so all of them may be multiplied by the same factor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ByRate(BTreeMap<Decimal, Decimal>);

impl ByRate {
    /// Adds `net` at the VAT rate `vat` (%).
    pub fn add(&mut self, vat: Decimal, net: Decimal) {
        if !net.is_zero() {
            *self.0.entry(vat.normalize()).or_default() += net;
        }
    }

    /// Returns the totals excluding and including VAT, for amounts that are `scale` times too large.
    pub fn totals(&self, scale: Decimal) -> (Decimal, Decimal) {
        let (net, percent) = self.sums();
        ((net / scale).normalize(), (percent / (scale * Decimal::ONE_HUNDRED)).normalize())
    }

    /// Returns the sum of the net amounts, and a hundred times the sum of the gross amounts.
    fn sums(&self) -> (Decimal, Decimal) {
        let net = self.0.values().sum();
        (net, self.0.iter().map(|(rate, net)| net * (Decimal::ONE_HUNDRED + rate)).sum())
    }

    /// Returns `net` including VAT at the effective rate, which is the average of these rates weighted by their net
    /// amounts.
    fn with_vat(&self, net: Decimal) -> Decimal {
        let (sum, percent) = self.sums();
        let whole = sum * Decimal::ONE_HUNDRED;
        // One division after the multiplication is the most exact, unless the product has more than 28 digits.
        net.checked_mul(percent).map_or_else(|| net * (percent / whole), |product| product / whole).normalize()
    }
}

/// The price bounds of a session, and how its amounts are divided among the VAT rates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bounds {
    min: Option<PriceBound>,
    max: Option<PriceBound>,
    /// Net amounts of the session's lines by VAT rate. For a session that costs nothing, everything is at the tariff's
    /// highest rate.
    shares: ByRate,
}

impl Bounds {
    /// Creates the price bounds that `tariff` sets for a session whose lines add up to `nets`.
    pub fn new(tariff: &Tariff, nets: ByRate) -> Self {
        let mut shares = nets;
        if shares.0.is_empty() {
            let components = tariff.elements.iter().flat_map(|element| &element.price_components);
            let highest = components.map(|component| component.vat.unwrap_or_default()).max();
            shares.add(highest.unwrap_or_default(), Decimal::ONE);
        }
        Self { min: tariff.min_price.clone(), max: tariff.max_price.clone(), shares }
    }

    /// Brings the totals `net` and `gross` within the bounds. `round` is applied to every amount that results from a
    /// bound.
    ///
    /// The net total is bounded first. If that changes it, the gross total follows at the effective VAT rate of the
    /// lines. Then `incl_vat` bounds the gross total. A minimum never raises a total above the maximum.
    pub fn hold(&self, net: Decimal, gross: Decimal, round: impl Fn(Decimal) -> Decimal) -> (Decimal, Decimal) {
        let least = self.min.as_ref().map_or(net, |min| round(min.excl_vat).max(net));
        let total = self.max.as_ref().map_or(least, |max| round(max.excl_vat).min(least));
        let mut with_vat = if total == net { gross } else { round(self.shares.with_vat(total)) };
        if let Some(least) = self.min.as_ref().and_then(|min| min.incl_vat) {
            let most = self.max.as_ref().map(|max| max.incl_vat.unwrap_or_else(|| self.shares.with_vat(max.excl_vat)));
            with_vat = with_vat.max(round(most.map_or(least, |most| most.min(least))));
        }
        if let Some(most) = self.max.as_ref().and_then(|max| max.incl_vat) {
            with_vat = with_vat.min(round(most));
        }
        (total, with_vat)
    }

    /// Divides `net` among the VAT rates of the lines in proportion to their amounts. `round` rounds to whole minor
    /// units.
    ///
    /// The parts are rounded cumulatively: they add up to `net`, and each is within one unit of its exact share.
    pub fn divide(&self, net: Decimal, round: impl Fn(Decimal) -> Decimal) -> BTreeMap<Decimal, Decimal> {
        let (whole, _) = self.shares.sums();
        let (mut sum, mut divided) = (Decimal::ZERO, Decimal::ZERO);
        let mut parts = BTreeMap::new();
        for (rate, share) in &self.shares.0 {
            sum += share;
            let up_to = round(net * (sum / whole));
            parts.insert(*rate, up_to - divided);
            divided = up_to;
        }
        parts
    }
}
