//! What the mails say, in both languages side by side.
//!
//! A name in braces stands for a value, which [`Letter::values`](super::Letter::values) gives.

use domain::accounts::Language;

/// A text in both languages.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub en: &'static str,
    pub de: &'static str,
}

impl Text {
    /// Returns the text in a language.
    pub fn in_language(self, language: Language) -> &'static str {
        match language {
            Language::En => self.en,
            Language::De => self.de,
        }
    }
}

/// The texts of one kind of mail. The greeting precedes them, and the signature follows.
#[derive(Clone, Copy, Debug)]
pub struct Texts {
    pub subject: Text,
    /// The paragraph before the rows.
    pub opening: Text,
    /// The rows, each with its label.
    pub rows: &'static [Row],
    /// The paragraph after the rows.
    pub closing: Text,
}

/// A row of the facts in a mail.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub label: Text,
    pub value: Text,
}

const fn text(en: &'static str, de: &'static str) -> Text {
    Text { en, de }
}

/// Creates a row whose value is the same in both languages.
const fn row(label: Text, value: &'static str) -> Row {
    Row { label, value: text(value, value) }
}

pub const GREETING: Text = text("Hello {name},", "Guten Tag {name},");
pub const GREETING_WITHOUT_NAME: Text = text("Hello,", "Guten Tag,");
pub const SIGNATURE: Text = text(
    "This e-mail was sent automatically. Please do not reply to it.",
    "Diese E-Mail wurde automatisch verschickt. Bitte antworten Sie nicht darauf.",
);

const COST: Row = row(text("Cost, including VAT", "Kosten, inklusive Mehrwertsteuer"), "{cost}");
const SESSION: Row = row(text("Session", "Ladevorgang"), "{session}");
const INVOICE: Row = row(text("Invoice", "Rechnung"), "{invoice}");
const DUE: Row = row(text("Amount due", "Offener Betrag"), "{due}");
const STATION: Row = row(text("Charging station", "Ladestation"), "{station}");
const STARTED: Row = row(text("Start", "Beginn"), "{started}");
const ENDED: Row = row(text("End", "Ende"), "{ended}");
const DURATION: Row = row(text("Duration", "Dauer"), "{duration}");
const ENERGY: Row = row(text("Energy", "Energie"), "{energy} kWh");

const TOP_UP: Text = text(
    "You can top up your wallet in the app or at our cash desk. The money then pays open invoices by itself, the \
     oldest first.",
    "Sie können Ihr Guthaben in der App oder an unserer Kasse aufladen. Offene Rechnungen werden dann von selbst \
     bezahlt, die älteste zuerst.",
);

pub const SESSION_COMPLETE: Texts = Texts {
    subject: text("Your charging session is complete: {cost}", "Ihr Ladevorgang ist abgeschlossen: {cost}"),
    opening: text("Your charging session is complete.", "Ihr Ladevorgang ist abgeschlossen."),
    rows: &[STATION, STARTED, ENDED, DURATION, ENERGY, COST, SESSION],
    closing: text("You will find the invoice in your account.", "Die Rechnung finden Sie in Ihrem Konto."),
};

pub const SESSION_STOPPED: Texts = Texts {
    subject: text("Your charging session was stopped: {cost}", "Ihr Ladevorgang wurde beendet: {cost}"),
    opening: text(
        "Your charging session was stopped before its target was reached.",
        "Ihr Ladevorgang wurde beendet, bevor sein Ziel erreicht war.",
    ),
    ..SESSION_COMPLETE
};

pub const SESSION_FAILED: Texts = Texts {
    subject: text("Your charging session failed", "Ihr Ladevorgang ist fehlgeschlagen"),
    opening: text(
        "Your charging session failed. You pay nothing for it.",
        "Ihr Ladevorgang ist fehlgeschlagen. Er kostet Sie nichts.",
    ),
    rows: &[STATION, STARTED, ENDED, DURATION, ENERGY, SESSION],
    closing: text("We are sorry about that.", "Wir bitten um Entschuldigung."),
};

pub const INVOICE_OPEN: Texts = Texts {
    subject: text("Your invoice over {due} is open", "Ihre Rechnung über {due} ist offen"),
    opening: text(
        "The balance of your wallet is too low to pay an invoice.",
        "Ihr Guthaben reicht nicht aus, um eine Rechnung zu bezahlen.",
    ),
    rows: &[DUE, INVOICE, SESSION],
    closing: TOP_UP,
};

pub const INVOICE_IN_ANOTHER_CURRENCY: Texts = Texts {
    opening: text(
        "Your wallet cannot pay an invoice, because the invoice is in another currency and amounts are not converted.",
        "Ihr Guthaben kann eine Rechnung nicht bezahlen, denn sie lautet auf eine andere Währung, und Beträge werden \
         nicht umgerechnet.",
    ),
    closing: text(
        "Please contact our customer service to pay it in another way.",
        "Bitte wenden Sie sich an unseren Kundendienst, um sie auf anderem Weg zu bezahlen.",
    ),
    ..INVOICE_OPEN
};

pub const WALLET_LOW: Texts = Texts {
    subject: text("Your balance is low: {balance}", "Ihr Guthaben ist niedrig: {balance}"),
    opening: text(
        "After your last payment, the balance of your wallet is low.",
        "Nach Ihrer letzten Zahlung ist Ihr Guthaben niedrig.",
    ),
    rows: &[
        row(text("Balance", "Guthaben"), "{balance}"),
        row(text("Last payment", "Letzte Zahlung"), "{paid}"),
        INVOICE,
    ],
    closing: TOP_UP,
};

/// Returns the text with the names in braces replaced by values. Names in braces within a value are not replaced.
pub fn filled(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        let (name, after) = from.split_once('}').unwrap_or((from, ""));
        filled.push_str(before);
        filled.extend(values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> Vec<Text> {
        let kinds =
            [SESSION_COMPLETE, SESSION_STOPPED, SESSION_FAILED, INVOICE_OPEN, INVOICE_IN_ANOTHER_CURRENCY, WALLET_LOW];
        let mut all = vec![GREETING, GREETING_WITHOUT_NAME, SIGNATURE];
        for texts in kinds {
            all.extend([texts.subject, texts.opening, texts.closing]);
            all.extend(texts.rows.iter().flat_map(|row| [row.label, row.value]));
        }
        all
    }

    fn names(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect()
    }

    #[test]
    fn both_languages_say_the_same_with_the_same_values() {
        for text in all() {
            assert!(!text.en.is_empty() && !text.de.is_empty(), "{text:?}");
            assert_eq!(names(text.en), names(text.de), "{text:?}");
            assert!(!text.en.contains("  ") && !text.de.contains("  "), "{text:?}");
        }
    }

    #[test]
    fn a_value_is_filled_in_as_it_is() {
        let values = [("name", "{cost}".to_owned()), ("cost", "1 EUR".to_owned())];
        assert_eq!(filled("{name}: {cost}, {cost}.", &values), "{cost}: 1 EUR, 1 EUR.");
        assert_eq!(filled("no values", &values), "no values");
    }
}
