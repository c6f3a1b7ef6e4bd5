//! The points of a session at which a tariff can change its price, and an upper bound of what a session can cost.

use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use chrono::Duration;

use super::{Dimension, PriceComponent, Restrictions, Tariff};
use crate::Instant;
use crate::units::WattHours;

/// The highest possible VAT (100 %), as a factor on a net amount.
const HIGHEST_GROSS: Decimal = Decimal::TWO;

impl Tariff {
    /// Returns every instant after `from`, up to and including `to`, at which the clock in `tz` or the time since
    /// `started_at` could change the active price. The instants are in order and distinct.
    #[must_use]
    pub fn time_boundaries(&self, tz: Tz, started_at: Instant, from: Instant, to: Instant) -> Vec<Instant> {
        let mut instants = Vec::new();
        for restrictions in self.restrictions() {
            restrictions.clock_boundaries(tz, from, to, &mut instants);
            instants.extend(restrictions.duration_boundaries().map(|ms| started_at + Duration::milliseconds(ms)));
        }
        instants.retain(|at| from < *at && *at <= to);
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// Returns every register reading at which the energy since the start could change the active price: the first
    /// whole watt-hour that reaches a bound.
    #[must_use]
    pub fn energy_boundaries(&self) -> Vec<WattHours> {
        let kwh = self.restrictions().flat_map(Restrictions::energy_boundaries);
        kwh.filter_map(|kwh| (kwh * Decimal::ONE_THOUSAND).ceil().to_u64()).map(WattHours).collect()
    }

    /// Returns an upper bound, including VAT, of the cost of any session of at most `register` and `hours`. It takes
    /// the most expensive component for everything, adds a whole step, and rounds everything up.
    #[must_use]
    pub fn cost_at_most(&self, register: WattHours, hours: Decimal) -> Decimal {
        let components = || self.elements.iter().flat_map(|element| &element.price_components);
        let most = |dimension: Dimension, volume: Decimal, step: Decimal| {
            let of_it = || components().filter(move |component| component.dimension == dimension);
            let dearest = of_it().map(PriceComponent::gross_price).max().unwrap_or_default();
            let step_size = of_it().map(|component| component.step_size).max().unwrap_or_default();
            dearest * (volume + step * Decimal::from(step_size))
        };
        let used = most(Dimension::Flat, Decimal::ONE, Decimal::ZERO)
            + most(Dimension::Energy, register.kwh(), Decimal::new(1, 3))
            + most(Dimension::Time, hours, Decimal::ONE / Decimal::from(3600));
        // Every line and every VAT rate is rounded once, by at most half a minor unit.
        let minor_unit = Decimal::new(1, self.currency.minor_digits());
        let rounded = used + minor_unit * Decimal::from(components().count() + 1);
        let least = self.min_price.as_ref().map_or(Decimal::ZERO, |bound| {
            bound.incl_vat.unwrap_or_default().max(bound.excl_vat * HIGHEST_GROSS) + minor_unit
        });
        rounded.max(least)
    }

    fn restrictions(&self) -> impl Iterator<Item = &Restrictions> {
        self.elements.iter().filter_map(|element| element.restrictions.as_ref())
    }
}

impl PriceComponent {
    fn gross_price(&self) -> Decimal {
        self.price * (Decimal::ONE + self.vat.unwrap_or_default() / Decimal::ONE_HUNDRED)
    }
}
