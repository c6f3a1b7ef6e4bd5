use chrono::DateTime;
use chrono_tz::Tz;
use domain::accounts::Language;
use domain::billing::{Invoice, LowBalance, PaymentCompleted, PaymentFailed, PaymentRefusal};
use domain::charging::session::{SessionEnded, SessionStatus};
use domain::event::Event;
use domain::id::{InvoiceId, SessionId, StationId};
use rust_decimal::Decimal;

use super::format::{Money, duration, money, number, time};
use super::reader::Reader;
use super::texts::{self, Text, Texts, filled};

/// What a mail tells a user.
#[derive(Clone, Debug, PartialEq)]
pub enum Letter {
    /// A session has ended.
    SessionEnded {
        session: SessionId,
        station: StationId,
        status: SessionStatus,
        started: DateTime<Tz>,
        ended: DateTime<Tz>,
        energy_kwh: Decimal,
        /// What the session costs, including VAT. `None` if it is not billed.
        cost: Option<Money>,
    },
    /// An invoice waits for money.
    InvoiceOpen { invoice: InvoiceId, session: SessionId, due: Money, reason: PaymentRefusal },
    /// A payment has made the wallet low.
    WalletLow { invoice: InvoiceId, paid: Money, balance: Money },
}

/// A mail as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

impl Letter {
    /// Returns the letter about an event, if its user gets a mail about it.
    pub fn about(event: &Event, low: &LowBalance) -> Option<Self> {
        match event {
            Event::SessionEnded(ended) => Self::session_ended(ended),
            Event::PaymentFailed(payment) => Some(Self::invoice_open(payment)),
            Event::PaymentCompleted(payment) => Some(Self::wallet_low(payment, low.reached_by(payment)?)),
            _ => None,
        }
    }

    /// Returns the letter about the end of a session. Returns `None` if the session cannot be billed because its event
    /// is wrong: `BILLING_FAILED` notifies the operators.
    fn session_ended(ended: &SessionEnded) -> Option<Self> {
        let time_zone: Tz = ended.time_zone.parse().unwrap_or_default();
        let invoice = Invoice::for_session(ended, ended.ended_at).ok()?;
        Some(Self::SessionEnded {
            session: ended.session_id.clone(),
            station: ended.station_id.clone(),
            status: ended.status,
            started: ended.started_at.with_timezone(&time_zone),
            ended: ended.ended_at.with_timezone(&time_zone),
            energy_kwh: ended.energy_kwh.round_dp(3).normalize(),
            cost: invoice.map(|Invoice { bill, .. }| Money { amount: bill.total_incl_vat, currency: bill.currency }),
        })
    }

    fn invoice_open(payment: &PaymentFailed) -> Self {
        Self::InvoiceOpen {
            invoice: payment.invoice_id.clone(),
            session: payment.session_id.clone(),
            due: Money { amount: payment.amount, currency: payment.currency },
            reason: payment.reason,
        }
    }

    fn wallet_low(payment: &PaymentCompleted, balance: Decimal) -> Self {
        let currency = payment.currency;
        Self::WalletLow {
            invoice: payment.invoice_id.clone(),
            paid: Money { amount: payment.amount, currency },
            balance: Money { amount: balance, currency },
        }
    }

    fn texts(&self) -> Texts {
        match self {
            Self::SessionEnded { cost: None, .. } => texts::SESSION_FAILED,
            Self::SessionEnded { status: SessionStatus::Interrupted, .. } => texts::SESSION_STOPPED,
            Self::SessionEnded { .. } => texts::SESSION_COMPLETE,
            Self::InvoiceOpen { reason: PaymentRefusal::InsufficientFunds, .. } => texts::INVOICE_OPEN,
            Self::InvoiceOpen { reason: PaymentRefusal::CurrencyMismatch, .. } => texts::INVOICE_IN_ANOTHER_CURRENCY,
            Self::WalletLow { .. } => texts::WALLET_LOW,
        }
    }

    /// Returns the values of the names in the texts.
    pub fn values(&self, language: Language) -> Vec<(&'static str, String)> {
        match self {
            Self::SessionEnded { session, station, started, ended, energy_kwh, cost, .. } => vec![
                ("session", session.to_string()),
                ("station", station.to_string()),
                ("started", time(*started, language)),
                ("ended", time(*ended, language)),
                ("duration", duration(*ended - *started)),
                ("energy", number(*energy_kwh, language)),
                ("cost", cost.map(|cost| money(cost, language)).unwrap_or_default()),
            ],
            Self::InvoiceOpen { invoice, session, due, .. } => {
                vec![("invoice", invoice.to_string()), ("session", session.to_string()), ("due", money(*due, language))]
            }
            Self::WalletLow { invoice, paid, balance } => vec![
                ("invoice", invoice.to_string()),
                ("paid", money(*paid, language)),
                ("balance", money(*balance, language)),
            ],
        }
    }

    /// Writes the mail to a reader.
    pub fn write(&self, reader: &Reader) -> Mail {
        let (texts, language) = (self.texts(), reader.language);
        let mut values = self.values(language);
        values.extend(reader.name.clone().map(|name| ("name", name)));
        let write = |text: Text| filled(text.in_language(language), &values);
        let greeting = if reader.name.is_some() { texts::GREETING } else { texts::GREETING_WITHOUT_NAME };
        let rows: Vec<_> = texts.rows.iter().map(|row| (write(row.label), write(row.value))).collect();
        let parts = Parts {
            language,
            subject: write(texts.subject),
            before: [write(greeting), write(texts.opening)],
            rows,
            after: [write(texts.closing), write(texts::SIGNATURE)],
        };
        Mail { text: parts.text(), html: parts.html(), subject: parts.subject }
    }
}

/// The parts of a mail. The text and the HTML have the same parts.
struct Parts {
    language: Language,
    subject: String,
    before: [String; 2],
    rows: Vec<(String, String)>,
    after: [String; 2],
}

impl Parts {
    fn text(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(|(label, value)| format!("{label}: {value}")).collect();
        let [greeting, opening] = &self.before;
        let [closing, signature] = &self.after;
        format!("{greeting}\n\n{opening}\n\n{}\n\n{closing}\n\n{signature}\n", rows.join("\n"))
    }

    fn html(&self) -> String {
        let language = match self.language {
            Language::En => "en",
            Language::De => "de",
        };
        let paragraph = |text: &String| format!("<p>{}</p>\n", escaped(text));
        let paragraphs = |texts: &[String]| texts.iter().map(paragraph).collect::<Vec<_>>().concat();
        let row = |(label, value): &(String, String)| {
            format!("<tr><th scope=\"row\" align=\"left\">{}</th><td>{}</td></tr>\n", escaped(label), escaped(value))
        };
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n\
             <body>\n{}<table cellpadding=\"4\">\n{}</table>\n{}</body>\n</html>\n",
            escaped(&self.subject),
            paragraphs(&self.before),
            rows.concat(),
            paragraphs(&self.after)
        )
    }
}

/// Returns the text with the special characters of HTML escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use domain::id::UserId;

    use super::*;
    use crate::mail::texts::Row;

    fn money(amount: &str) -> Money {
        Money { amount: amount.parse().unwrap(), currency: "EUR".parse().unwrap() }
    }

    fn session_ended(status: SessionStatus, cost: Option<Money>) -> Letter {
        let at = |text: &str| text.parse::<domain::Instant>().unwrap().with_timezone(&chrono_tz::Europe::Berlin);
        Letter::SessionEnded {
            session: SessionId::new("x-1").unwrap(),
            station: StationId::new("s-1").unwrap(),
            status,
            started: at("2026-02-22T10:00:00Z"),
            ended: at("2026-02-22T11:05:00Z"),
            energy_kwh: "1234.5".parse().unwrap(),
            cost,
        }
    }

    /// Returns a letter of each kind.
    fn letters() -> Vec<Letter> {
        let (invoice, session) = (InvoiceId::of(&SessionId::new("x-1").unwrap()), SessionId::new("x-1").unwrap());
        let open = |reason| Letter::InvoiceOpen {
            invoice: invoice.clone(),
            session: session.clone(),
            due: money("14.70"),
            reason,
        };
        vec![
            session_ended(SessionStatus::Completed, Some(money("14.70"))),
            session_ended(SessionStatus::Interrupted, Some(money("14.70"))),
            session_ended(SessionStatus::Failed, None),
            open(PaymentRefusal::InsufficientFunds),
            open(PaymentRefusal::CurrencyMismatch),
            Letter::WalletLow { invoice: invoice.clone(), paid: money("14.70"), balance: money("2.30") },
        ]
    }

    fn reader(name: Option<&str>, language: Language) -> Reader {
        Reader { address: "ada@example.org".to_owned(), name: name.map(str::to_owned), language }
    }

    #[test]
    fn each_letter_has_all_values_of_its_texts() {
        for letter in letters() {
            let texts = letter.texts();
            let rows = texts.rows.iter().flat_map(|Row { label, value }| [*label, *value]);
            for language in [Language::En, Language::De] {
                let values = letter.values(language);
                for text in rows.clone().chain([texts.subject, texts.opening, texts.closing]) {
                    let text = text.in_language(language);
                    for name in text.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
                        let value = values.iter().find(|(known, _)| *known == name);
                        assert!(value.is_some_and(|(_, value)| !value.is_empty()), "{text}: {name} of {letter:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_mail_says_what_a_session_cost_in_the_language_of_the_reader() {
        let letter = session_ended(SessionStatus::Completed, Some(money("1014.7")));
        let mail = letter.write(&reader(Some("Ada"), Language::En));
        assert_eq!(mail.subject, "Your charging session is complete: 1,014.70 EUR");
        assert_eq!(
            mail.text,
            "Hello Ada,\n\nYour charging session is complete.\n\nCharging station: s-1\n\
             Start: 22 February 2026, 11:00 (UTC+01:00)\nEnd: 22 February 2026, 12:05 (UTC+01:00)\n\
             Duration: 1 h 05 min\nEnergy: 1,234.5 kWh\nCost, including VAT: 1,014.70 EUR\nSession: x-1\n\n\
             You will find the invoice in your account.\n\n\
             This e-mail was sent automatically. Please do not reply to it.\n"
        );
        let mail = letter.write(&reader(None, Language::De));
        assert_eq!(mail.subject, "Ihr Ladevorgang ist abgeschlossen: 1.014,70 EUR");
        assert!(mail.text.starts_with("Guten Tag,\n\n"), "{}", mail.text);
        for text in ["Beginn: 22.02.2026, 11:00 Uhr (UTC+01:00)\n", "Energie: 1.234,5 kWh\n"] {
            assert!(mail.text.contains(text), "{}", mail.text);
        }
        assert!(
            mail.html.contains("<html lang=\"de\">") && mail.html.contains("<td>1.014,70 EUR</td>"),
            "{}",
            mail.html
        );
    }

    #[test]
    fn the_html_says_what_the_text_says_and_a_name_is_no_html() {
        for letter in letters() {
            for language in [Language::En, Language::De] {
                let mail = letter.write(&reader(Some("<b>Ada & Co</b>"), language));
                assert!(
                    !mail.html.contains("<b>") && mail.html.contains("&lt;b&gt;Ada &amp; Co&lt;/b&gt;"),
                    "{}",
                    mail.html
                );
                for line in mail.text.lines().skip(1).filter(|line| !line.is_empty()) {
                    let parts = line.split_once(": ").map_or_else(|| vec![line], |(label, value)| vec![label, value]);
                    assert!(parts.iter().all(|part| mail.html.contains(&escaped(part))), "{line}: {}", mail.html);
                }
            }
        }
    }

    #[test]
    fn only_three_events_are_worth_a_mail() {
        let low = LowBalance { below: "10".parse().unwrap(), currency: "EUR".parse().unwrap() };
        let (session_id, user_id) = (SessionId::new("x-1").unwrap(), UserId::new("u-1").unwrap());
        let paid = |balance: &str| {
            Event::PaymentCompleted(PaymentCompleted {
                invoice_id: InvoiceId::of(&session_id),
                session_id: session_id.clone(),
                user_id: user_id.clone(),
                amount: "5.00".parse().unwrap(),
                currency: low.currency,
                balance: Some(balance.parse().unwrap()),
                wallet_version: Some(2),
            })
        };
        assert!(matches!(Letter::about(&paid("9.00"), &low), Some(Letter::WalletLow { .. })));
        assert_eq!(Letter::about(&paid("20.00"), &low), None);
        assert_eq!(Letter::about(&paid("1.00"), &low), None, "it was low before");
        let ended = testkit::ended("x-1", "u-1", 30_000);
        let about = |ended: &SessionEnded| Letter::about(&Event::SessionEnded(Box::new(ended.clone())), &low);
        let Some(Letter::SessionEnded { cost: Some(cost), .. }) = about(&ended) else { panic!("no letter") };
        assert_eq!(cost, money("15.00"), "what the invoice says");
        let failed = SessionEnded { status: SessionStatus::Failed, ..ended.clone() };
        assert!(matches!(about(&failed), Some(Letter::SessionEnded { cost: None, .. })));
        let wrong = SessionEnded { energy_kwh: Decimal::ONE, ..ended };
        assert_eq!(about(&wrong), None, "a session that cannot be billed has no cost to tell");
    }
}
