use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::error::Checks;
use crate::money::optional_decimal_schema;

/// The conditions under which a tariff element applies (OCPI `TariffRestrictions`). Times and dates are local to the
/// station.
///
/// Lower bounds are inclusive, upper bounds are exclusive. A time window without `start_time` begins at midnight, and
/// one without `end_time` ends at midnight. If `end_time` is not after `start_time`, it lies on the next day: 20:00 to
/// 00:00 is the evening, 22:00 to 06:00 is the night.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are named as in OCPI
pub struct Restrictions {
    /// Local time at which the daily window begins, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "local_time")]
    #[schemars(with = "Option<String>", regex(pattern = "^([0-1][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start_time: Option<NaiveTime>,
    /// Local time at which the daily window ends, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "local_time")]
    #[schemars(with = "Option<String>", regex(pattern = "^([0-1][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub end_time: Option<NaiveTime>,
    /// First local date on which the element applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9]{4}-[0-1][0-9]-[0-3][0-9]$"))]
    pub start_date: Option<NaiveDate>,
    /// Local date from which the element no longer applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9]{4}-[0-1][0-9]-[0-3][0-9]$"))]
    pub end_date: Option<NaiveDate>,
    /// Lower bound of the energy since the start of the session, kWh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub min_kwh: Option<Decimal>,
    /// Upper bound of the energy since the start of the session, kWh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub max_kwh: Option<Decimal>,
    /// Lower bound of the current, A. Tariffs of this network cannot use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub min_current: Option<Decimal>,
    /// Upper bound of the current, A. Tariffs of this network cannot use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub max_current: Option<Decimal>,
    /// Lower bound of the power, kW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub min_power: Option<Decimal>,
    /// Upper bound of the power, kW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_decimal_schema")]
    pub max_power: Option<Decimal>,
    /// Lower bound of the time since the start of the session, s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 31_536_000))]
    pub min_duration: Option<u32>,
    /// Upper bound of the time since the start of the session, s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 31_536_000))]
    pub max_duration: Option<u32>,
    /// Days of the week on which the element applies. If empty, it applies on every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub day_of_week: Vec<DayOfWeek>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum DayOfWeek {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl DayOfWeek {
    fn is(self, date: NaiveDate) -> bool {
        self as u32 == date.weekday().num_days_from_monday()
    }
}

mod local_time {
    use chrono::NaiveTime;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const FORMAT: &str = "%H:%M";

    #[allow(clippy::ref_option)] // serde requires this signature
    pub fn serialize<S: Serializer>(time: &Option<NaiveTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_str(&time.format(FORMAT).to_string()),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NaiveTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| NaiveTime::parse_from_str(&text, FORMAT))
            .transpose()
            .map_err(|_| de::Error::custom("must be a local time such as 09:30"))
    }
}

/// The values at one moment of a session against which the restrictions are checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The station's local time.
    pub local: NaiveDateTime,
    /// Energy since the start of the session, kWh.
    pub kwh: Decimal,
    /// Time since the start of the session, ms.
    pub elapsed_ms: i64,
    /// Power, kW, if known.
    pub power_kw: Option<Decimal>,
    /// Current, A, if known.
    pub current_a: Option<Decimal>,
}

impl Restrictions {
    pub(super) fn hold(&self, at: &Moment) -> bool {
        self.hold_on_clock(at.local)
            && within(Some(at.kwh), self.min_kwh, self.max_kwh)
            && within(at.power_kw, self.min_power, self.max_power)
            && within(at.current_a, self.min_current, self.max_current)
            && within(Some(at.elapsed_ms), millis(self.min_duration), millis(self.max_duration))
    }

    fn hold_on_clock(&self, local: NaiveDateTime) -> bool {
        let (date, time) = (local.date(), local.time());
        let start = self.start_time.unwrap_or(NaiveTime::MIN);
        let in_time = match self.end_time {
            None => time >= start,
            Some(end) if start < end => (start..end).contains(&time),
            Some(end) => time >= start || time < end,
        };
        in_time
            && self.start_date.is_none_or(|start| date >= start)
            && self.end_date.is_none_or(|end| date < end)
            && (self.day_of_week.is_empty() || self.day_of_week.iter().any(|day| day.is(date)))
    }

    /// Collects every instant strictly between `from` and `to` at which the clock could change whether the restrictions
    /// hold.
    pub(super) fn clock_boundaries(&self, tz: Tz, from: Instant, to: Instant, into: &mut Vec<Instant>) {
        let on_dates = self.start_date.is_some() || self.end_date.is_some() || !self.day_of_week.is_empty();
        // A window with only one of the two times begins or ends at midnight.
        let at_midnight = on_dates || self.start_time.is_some() != self.end_time.is_some();
        let times: Vec<NaiveTime> =
            [self.start_time, self.end_time, at_midnight.then_some(NaiveTime::MIN)].into_iter().flatten().collect();
        if times.is_empty() {
            return;
        }
        into.extend(clock_change(tz, from, to));
        let last = to.with_timezone(&tz).date_naive() + Duration::days(1);
        let mut date = from.with_timezone(&tz).date_naive();
        while date <= last {
            for time in &times {
                let at = tz.from_local_datetime(&date.and_time(*time));
                into.extend([at.earliest(), at.latest()].into_iter().flatten().map(|at| at.to_utc()));
            }
            date += Duration::days(1);
        }
    }

    /// Returns the energies since the start (kWh) at which the restrictions could begin or cease to hold.
    pub(super) fn energy_boundaries(&self) -> impl Iterator<Item = Decimal> {
        [self.min_kwh, self.max_kwh].into_iter().flatten()
    }

    /// Returns the durations since the start (ms) at which the restrictions could begin or cease to hold.
    pub(super) fn duration_boundaries(&self) -> impl Iterator<Item = i64> {
        [millis(self.min_duration), millis(self.max_duration)].into_iter().flatten()
    }

    pub(super) fn validate(&self, at: &str, checks: &mut Checks) {
        checks
            .require(
                self.min_current.is_none(),
                format!("{at}.min_current"),
                "cannot be evaluated: ports of this network meter power; use min_power",
            )
            .require(
                self.max_current.is_none(),
                format!("{at}.max_current"),
                "cannot be evaluated: ports of this network meter power; use max_power",
            )
            .require(ordered(self.min_kwh, self.max_kwh), format!("{at}.max_kwh"), "must be above min_kwh")
            .require(ordered(self.min_power, self.max_power), format!("{at}.max_power"), "must be above min_power")
            .require(
                ordered(self.min_duration, self.max_duration),
                format!("{at}.max_duration"),
                "must be above min_duration",
            )
            .require(ordered(self.start_date, self.end_date), format!("{at}.end_date"), "must be after start_date");
    }
}

fn millis(seconds: Option<u32>) -> Option<i64> {
    seconds.map(|s| i64::from(s) * 1000)
}

fn ordered<T: PartialOrd>(min: Option<T>, max: Option<T>) -> bool {
    min.zip(max).is_none_or(|(min, max)| min < max)
}

/// Returns whether `value` lies within the bounds. An unknown value satisfies no bound.
fn within<T: PartialOrd + Copy>(value: Option<T>, min: Option<T>, max: Option<T>) -> bool {
    min.is_none_or(|min| value.is_some_and(|v| v >= min)) && max.is_none_or(|max| value.is_some_and(|v| v < max))
}

/// Returns the instant between `from` and `to` at which the zone's UTC offset changes, if it does.
fn clock_change(tz: Tz, from: Instant, to: Instant) -> Option<Instant> {
    use chrono::Offset as _;
    let offset = |at: Instant| tz.offset_from_utc_datetime(&at.naive_utc()).fix();
    if offset(from) == offset(to) {
        return None;
    }
    let (mut before, mut after) = (from, to);
    while after - before > Duration::milliseconds(1) {
        let middle = before + (after - before) / 2;
        if offset(middle) == offset(from) {
            before = middle;
        } else {
            after = middle;
        }
    }
    // Zones change at whole seconds, and the bisection ends within a millisecond after the change.
    chrono::DateTime::from_timestamp(after.timestamp(), 0)
}
