//! Money: exact decimals, a currency, and the only place where amounts are rounded.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// Returns the number of decimal places of the minor unit: 2 for EUR, 0 for JPY, 3 for KWD.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        self.0.exponent().unwrap_or(2).into()
    }

    /// Rounds `amount` to the minor unit, half away from zero (EN 16931). The result always has all digits of the minor
    /// unit.
    #[must_use]
    pub fn round(self, amount: Decimal) -> Decimal {
        let digits = self.minor_digits();
        let mut rounded = amount.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
        rounded.rescale(digits);
        rounded
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        iso_currency::Currency::from_code(code)
            .map(Self)
            .ok_or_else(|| format!("{code:?} is no ISO 4217 currency code such as EUR"))
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        code.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.to_string()
    }
}

impl JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 currency code" })
    }
}

/// Returns the JSON Schema of a decimal. Requests may write it as a number or as a string; responses write a string.
#[must_use]
pub fn decimal_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number"],
        "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?$",
        "minimum": 0,
        "maximum": 999_999_999
    })
}

/// Returns the schema of [`decimal_schema`] that also allows null.
#[must_use]
pub fn optional_decimal_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number", "null"],
        "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?$",
        "minimum": 0,
        "maximum": 999_999_999
    })
}

/// Returns the JSON Schema of an amount in contracts: a decimal string.
#[must_use]
pub fn amount_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" })
}

/// Returns the schema of [`decimal_schema`] that also allows null and negative amounts.
#[must_use]
pub fn optional_amount_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number", "null"],
        "pattern": "^-?[0-9]{1,9}(\\.[0-9]{1,9})?$",
        "minimum": -999_999_999,
        "maximum": 999_999_999
    })
}
