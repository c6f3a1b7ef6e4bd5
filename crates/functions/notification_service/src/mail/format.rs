//! Amounts, times and durations as the reader's language writes them.

use chrono::{DateTime, TimeDelta};
use chrono_tz::Tz;
use domain::accounts::Language;
use domain::money::Currency;
use rust_decimal::Decimal;

/// An amount of money.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Money {
    pub amount: Decimal,
    pub currency: Currency,
}

/// Writes a number: `1,234.5` in English, `1.234,5` in German.
pub fn number(value: Decimal, language: Language) -> String {
    let (group, point) = match language {
        Language::En => (',', '.'),
        Language::De => ('.', ','),
    };
    let digits = value.abs().to_string();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let mut text = String::new();
    if value < Decimal::ZERO {
        text.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(group);
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push(point);
        text.push_str(fraction);
    }
    text
}

/// Writes an amount with all digits of the currency's minor unit, e.g. `14.70 EUR`.
pub fn money(money: Money, language: Language) -> String {
    format!("{} {}", number(money.currency.round(money.amount), language), money.currency)
}

/// Writes a time with the offset of its time zone, e.g. `22 February 2026, 11:00 (UTC+01:00)`.
pub fn time(at: DateTime<Tz>, language: Language) -> String {
    let pattern = match language {
        Language::En => "%-d %B %Y, %H:%M (UTC%:z)",
        Language::De => "%d.%m.%Y, %H:%M Uhr (UTC%:z)",
    };
    at.format(pattern).to_string()
}

/// Writes a duration in whole minutes, e.g. `1 h 05 min`. Both languages use the same form.
pub fn duration(duration: TimeDelta) -> String {
    let minutes = (duration.num_seconds().max(0) + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_marks_of_the_language() {
        let cases = [
            ("0", "0", "0"),
            ("0.05", "0.05", "0,05"),
            ("999.5", "999.5", "999,5"),
            ("1234", "1,234", "1.234"),
            ("1234567.891", "1,234,567.891", "1.234.567,891"),
            ("-1000.00", "-1,000.00", "-1.000,00"),
        ];
        for (value, en, de) in cases {
            let value: Decimal = value.parse().unwrap();
            assert_eq!((number(value, Language::En), number(value, Language::De)), (en.to_owned(), de.to_owned()));
        }
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let cases = [
            ("14.7", "EUR", "14.70 EUR", "14,70 EUR"),
            ("1500", "JPY", "1,500 JPY", "1.500 JPY"),
            ("2", "KWD", "2.000 KWD", "2,000 KWD"),
        ];
        for (amount, currency, en, de) in cases {
            let amount = Money { amount: amount.parse().unwrap(), currency: currency.parse().unwrap() };
            assert_eq!((money(amount, Language::En), money(amount, Language::De)), (en.to_owned(), de.to_owned()));
        }
    }

    #[test]
    fn times_are_those_of_their_time_zone() {
        let at = |text: &str| text.parse::<domain::Instant>().unwrap().with_timezone(&chrono_tz::Europe::Berlin);
        let cases = [
            ("2026-02-22T10:05:00Z", "22 February 2026, 11:05 (UTC+01:00)", "22.02.2026, 11:05 Uhr (UTC+01:00)"),
            ("2026-07-01T22:30:00Z", "2 July 2026, 00:30 (UTC+02:00)", "02.07.2026, 00:30 Uhr (UTC+02:00)"),
        ];
        for (text, en, de) in cases {
            assert_eq!((time(at(text), Language::En), time(at(text), Language::De)), (en.to_owned(), de.to_owned()));
        }
    }

    #[test]
    fn durations_are_whole_minutes() {
        let cases =
            [(0, "0 min"), (29, "0 min"), (30, "1 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min"), (-5, "0 min")];
        for (seconds, text) in cases {
            assert_eq!(duration(TimeDelta::seconds(seconds)), text, "{seconds} s");
        }
    }
}
