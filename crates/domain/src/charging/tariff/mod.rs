//! Tariffs: the OCPI 2.2.1 Tariff object in OCPI's own JSON form (`snake_case`), and the engine that prices a session
//! by it.
//!
//! Source: OCPI 2.2.1-d2, `mod_tariffs`. For every moment and every dimension, the first matching tariff element
//! applies.

mod bill;
mod boundaries;
mod bounds;
mod engine;
mod restrictions;

pub use bill::{Bill, BillDimension, BillLine, VatLine, least_price};
pub(crate) use bounds::Bounds;
pub use engine::{ChargingPeriod, Dimension, Line, PeriodState, Price, price};
pub use restrictions::{DayOfWeek, Restrictions};

use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Checks, DomainError};
use crate::money::{Currency, decimal_schema, optional_decimal_schema};

/// An OCPI 2.2.1 Tariff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tariff {
    /// The operator's own id of the tariff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
    /// Currency of every price in the tariff.
    pub currency: Currency,
    /// Tariff elements, in order of precedence.
    #[schemars(length(min = 1, max = 20))]
    pub elements: Vec<TariffElement>,
    /// Minimum price of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_price: Option<PriceBound>,
    /// Maximum price of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<PriceBound>,
}

/// A bound on the price of a session, excluding and including VAT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceBound {
    /// Amount excluding VAT.
    #[schemars(schema_with = "decimal_schema")]
    pub excl_vat: Decimal,
    /// Amount including VAT. If absent, VAT is added to the amount excluding VAT at the effective rate of the session's
    /// lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub incl_vat: Option<Decimal>,
}

/// Price components that apply under the same restrictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TariffElement {
    /// Price components. At most one component per dimension applies.
    #[schemars(length(min = 1, max = 4))]
    pub price_components: Vec<PriceComponent>,
    /// Restrictions that say when the element applies. Without restrictions it always applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restrictions: Option<Restrictions>,
}

/// The price of one dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceComponent {
    /// The dimension that is priced.
    #[serde(rename = "type")]
    pub dimension: Dimension,
    /// Price per unit, excluding VAT: per kWh, per hour, or once per session.
    #[schemars(schema_with = "decimal_schema")]
    pub price: Decimal,
    /// VAT rate, %. If absent, no VAT applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub vat: Option<Decimal>,
    /// Billing step: the volume is rounded up to a multiple of this many Wh (ENERGY) or seconds (TIME, `PARKING_TIME`).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub step_size: u32,
}

impl Tariff {
    /// Returns the tariff of the short form: one element that prices only energy, in steps of 1 Wh, without VAT.
    #[must_use]
    pub fn per_kwh(price: Decimal, currency: Currency) -> Self {
        let energy = PriceComponent { dimension: Dimension::Energy, price, vat: None, step_size: 1 };
        let element = TariffElement { price_components: vec![energy], restrictions: None };
        Self { id: None, currency, elements: vec![element], min_price: None, max_price: None }
    }

    /// Checks that the tariff can price a session. `field` is the path of the tariff in the request; the errors name
    /// the fields below it.
    ///
    /// # Errors
    /// `Validation` for every value out of range, for a price bound whose amount including VAT is lower than its amount
    /// excluding VAT, for a minimum price above the maximum price, and for restrictions by current. The ports of this
    /// network meter power, not current, so an element restricted by current would never apply and its price would
    /// silently be zero.
    pub fn validate(&self, field: &str) -> Result<(), DomainError> {
        let mut checks = Checks::new();
        checks.require(
            (1..=20).contains(&self.elements.len()),
            format!("{field}.elements"),
            "must have 1 to 20 elements",
        );
        for (name, bound) in [("min_price", &self.min_price), ("max_price", &self.max_price)] {
            if let Some(bound) = bound {
                bound.validate(&format!("{field}.{name}"), &mut checks);
            }
        }
        if let Some((min, max)) = self.min_price.as_ref().zip(self.max_price.as_ref()) {
            min.validate_below(max, field, &mut checks);
        }
        for (e, element) in self.elements.iter().enumerate() {
            let at = format!("{field}.elements[{e}]");
            checks.require(
                (1..=4).contains(&element.price_components.len()),
                format!("{at}.price_components"),
                "must have 1 to 4 components",
            );
            for (c, component) in element.price_components.iter().enumerate() {
                component.validate(&format!("{at}.price_components[{c}]"), &mut checks);
            }
            if let Some(restrictions) = &element.restrictions {
                restrictions.validate(&format!("{at}.restrictions"), &mut checks);
            }
        }
        checks.finish()
    }
}

impl PriceBound {
    fn validate(&self, at: &str, checks: &mut Checks) {
        let range = || format!("must be from 0 to {HIGHEST_PRICE}");
        checks.require(in_bounds(self.excl_vat), format!("{at}.excl_vat"), range());
        let Some(incl_vat) = self.incl_vat else {
            return;
        };
        checks.require(in_bounds(incl_vat), format!("{at}.incl_vat"), range());
        if in_bounds(self.excl_vat) && in_bounds(incl_vat) {
            checks.require(
                (self.excl_vat..=self.excl_vat * Decimal::TWO).contains(&incl_vat),
                format!("{at}.incl_vat"),
                format!("must be from excl_vat ({}) to twice that, since VAT is at most 100 %", self.excl_vat),
            );
        }
    }

    fn validate_below(&self, max: &Self, field: &str, checks: &mut Checks) {
        checks.require(
            self.excl_vat <= max.excl_vat,
            format!("{field}.min_price.excl_vat"),
            format!("must be at most max_price.excl_vat ({})", max.excl_vat),
        );
        if let Some((min, max)) = self.incl_vat.zip(max.incl_vat) {
            checks.require(
                min <= max,
                format!("{field}.min_price.incl_vat"),
                format!("must be at most max_price.incl_vat ({max})"),
            );
        }
    }
}

/// Parses the argument `timeZone` of a request: the IANA name of the time zone of the local times in a tariff.
///
/// # Errors
/// `Validation` if there is no such time zone.
pub fn time_zone(name: &str) -> Result<Tz, DomainError> {
    name.parse()
        .map_err(|_| DomainError::invalid("timeZone", format!("{name:?} is no IANA time zone such as Europe/Berlin")))
}

/// The highest price that a request may name. Checking it here also bounds the calculation for tariffs that do not come
/// from a request.
const HIGHEST_PRICE: Decimal = Decimal::from_parts(999_999_999, 0, 0, false, 0);

fn in_bounds(price: Decimal) -> bool {
    (Decimal::ZERO..=HIGHEST_PRICE).contains(&price)
}

impl PriceComponent {
    fn validate(&self, at: &str, checks: &mut Checks) {
        let vat = self.vat.unwrap_or_default();
        checks
            .require(in_bounds(self.price), format!("{at}.price"), format!("must be from 0 to {HIGHEST_PRICE}"))
            .require(self.step_size >= 1, format!("{at}.step_size"), "must be 1 or more")
            .require(
                vat >= Decimal::ZERO && vat <= Decimal::ONE_HUNDRED,
                format!("{at}.vat"),
                "must be from 0 to 100 %",
            );
    }
}
