//! The `notification_service` Lambda: the error log and notifications.
//!
//! A notification is written to the log first, under an id that is derived from what it reports, and then published to
//! its topic and mailed to its user. A second report of the same thing finds the entry, which says what has been done
//! already, and does only the rest.

mod commands;
mod config;
mod mail;
mod topics;

use commands::{ListLogs, LogRef, LogView, Notify};
use domain::Instant;
use domain::accounts::{Area, Scope};
use domain::billing::{CreditNoteIssued, InvoiceGenerated, LowBalance, PaymentCompleted, PaymentFailed};
use domain::charging::session::SessionEnded;
use domain::charging::session::SessionStatus;
use domain::charging::station::StationStatus;
use domain::error::DomainError;
use domain::event::{Envelope, Event};
use domain::id::{LogId, UserId, derive};
use domain::machine::State;
use domain::notifications::{ErrorLogged, Level, LogEntry, LogStatus};
use domain::telemetry::TelemetryStale;
use lambda_kit::{
    Action, Answer, Context, Failure, Function, ListOf, Redelivery, Request, Trigger, action, drive_events,
};
use mail::{Letter, Outcome};
use rust_decimal::Decimal;
use serde_json::Value;
use store::{ErrorLogStore, StoreError};
use uuid::Uuid;

pub use config::Config;
pub use mail::Mails;
pub use topics::{Audience, Recipient, Topics};

/// How many messages of a batch are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;
/// The attribute `kind` of what staff and functions notify by the action `notify`.
const NOTICE: &str = "NOTICE";
/// The attribute `kind` of a wallet that a payment has made low.
const WALLET_LOW: &str = "WALLET_LOW";
/// The attribute `kind` of the report that SES refuses mails.
const MAIL_REFUSED: &str = "MAIL_REFUSED";

/// The `notification_service` function.
#[derive(Debug)]
pub struct NotificationService {
    logs: ErrorLogStore,
    topics: Topics,
    /// When a wallet is low.
    low: LowBalance,
    /// Sends mails; `None` if users get none.
    mails: Option<Mails>,
    redelivery: Redelivery,
}

/// The notification about an event.
struct Notification {
    to: Recipient,
    /// What it is about, for the filters of subscriptions.
    kind: &'static str,
    entry: LogEntry,
}

impl Function for NotificationService {
    const NAME: &'static str = "notification_service";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("notify", Notify => LogView, Self::notify)
            .by("staff")
            .about("Writes a log entry and publishes it. The same `deduplicationKey` gives the same entry.")
            .creates()
            .mutation()
            .scope(Scope::write(Area::Operations)),
        action!("listLogs", ListLogs => ListOf<LogView>, Self::list)
            .by("staff")
            .about("Lists log entries by `level`, `service` and `status` (default OPEN), newest first.")
            .at("GET /error-logs", Scope::read(Area::Operations))
            .query("errorLogs"),
        action!("acknowledgeLog", LogRef => LogView, Self::acknowledge)
            .by("TECH_SUPPORT, ADMIN")
            .about("Marks a log entry as ACKNOWLEDGED.")
            .at_transition("POST /error-logs/{id}/transitions", "ACKNOWLEDGED", Scope::write(Area::Operations))
            .mutation(),
        action!("resolveLog", LogRef => LogView, Self::resolve)
            .by("TECH_SUPPORT, ADMIN")
            .about("Marks a log entry as RESOLVED.")
            .at_transition("POST /error-logs/{id}/transitions", "RESOLVED", Scope::write(Area::Operations))
            .mutation(),
    ];

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Sqs(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be a batch of the notification queue"));
        };
        let tell = async |envelope: Envelope| self.tell(&envelope, context.now).await;
        drive_events(Self::NAME, batch, PARALLEL_MESSAGES, &self.redelivery, &context, tell).await
    }
}

impl NotificationService {
    /// Creates the function. Without `mails`, users get none. `redelivery` applies to the notification queue.
    #[must_use]
    pub fn new(
        logs: ErrorLogStore,
        topics: Topics,
        low: LowBalance,
        mails: Option<Mails>,
        redelivery: Redelivery,
    ) -> Self {
        Self { logs, topics, low, mails, redelivery }
    }

    async fn notify(&self, command: Notify, request: &Request) -> Result<Answer, Failure> {
        staff_only(request)?;
        let to = command.recipient()?;
        let id = match &command.deduplication_key {
            Some(key) => derive(&["notify", &command.service, key]),
            None => Uuid::now_v7(),
        };
        let correlation_id = Some(request.context.correlation_id.clone());
        let entry = LogEntry {
            correlation_id,
            ..open_entry(id, request.context.now, command.level, command.service, command.message)
        };
        // A repetition of an event has the same time. A repeated request has a different time each time, so that only
        // `insert_once` finds the earlier entry.
        let (alert, now) = (alert(&to, NOTICE, &entry), request.context.now);
        let inserted = match command.deduplication_key {
            Some(_) => self.logs.insert_once(&entry, alert, now).await,
            None => self.logs.insert(&entry, alert, now).await,
        };
        let entry = self.publish_once(&to, NOTICE, entry, inserted).await?;
        Answer::created(format!("/error-logs/{}", entry.id), LogView::new(&entry))
    }

    async fn list(&self, command: ListLogs, request: &Request) -> Result<Answer, Failure> {
        staff_only(request)?;
        let page = self.logs.list(&command.filter(), &command.page.into(), request.context.now).await?;
        Answer::page(page, |entry| LogView::new(&entry))
    }

    async fn acknowledge(&self, command: LogRef, request: &Request) -> Result<Answer, Failure> {
        self.transition(&command.id, LogStatus::Acknowledged, request).await
    }

    async fn resolve(&self, command: LogRef, request: &Request) -> Result<Answer, Failure> {
        self.transition(&command.id, LogStatus::Resolved, request).await
    }

    async fn transition(&self, id: &LogId, to: LogStatus, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let mut entry = self.load(id).await?;
        entry.transition(to, actor, request.context.now)?;
        self.logs.save_handled(&entry, request.context.now).await?;
        Answer::ok(LogView::new(&entry))
    }

    async fn load(&self, id: &LogId) -> Result<LogEntry, Failure> {
        Ok(self.logs.load(id).await?.ok_or_else(|| DomainError::not_found("log entry", id))?)
    }

    /// Notifies those whom an event concerns, once: in the log, on a topic and by mail.
    ///
    /// A crash between two of these steps leaves an entry that lacks their marks; the next delivery does the rest.
    async fn tell(&self, envelope: &Envelope, now: Instant) -> Result<(), Failure> {
        let Some(Notification { to, kind, entry }) = notification_for(envelope, &self.low) else { return Ok(()) };
        let inserted = self.logs.insert(&entry, alert(&to, kind, &entry), now).await;
        let entry = self.publish_once(&to, kind, entry, inserted).await?;
        let (Some(mails), Recipient::User(user)) = (&self.mails, &to) else { return Ok(()) };
        match Letter::about(&envelope.event, &self.low) {
            Some(letter) if !entry.mailed => self.mail_once(mails, user, &letter, entry, now).await,
            _ => Ok(()),
        }
    }

    async fn publish_once(
        &self,
        to: &Recipient,
        kind: &str,
        entry: LogEntry,
        inserted: Result<(), StoreError>,
    ) -> Result<LogEntry, Failure> {
        let entry = match inserted {
            Ok(()) => entry,
            Err(error) if error.is_stale() => self.load(&entry.id).await?,
            Err(error) => return Err(error.into()),
        };
        if entry.published {
            return Ok(entry);
        }
        self.topics.publish(to, kind, &entry).await?;
        self.mark(LogEntry { published: true, ..entry }).await
    }

    /// Mails a letter. SES takes no key by which it could recognise a repetition, so a crash before the mark is written
    /// makes the next delivery send the mail again.
    async fn mail_once(
        &self,
        mails: &Mails,
        user: &UserId,
        letter: &Letter,
        entry: LogEntry,
        now: Instant,
    ) -> Result<(), Failure> {
        if let Outcome::Refused(code) = mails.send(user, letter).await? {
            tracing::warn!(user.id = user.as_str(), log.id = entry.id.as_str(), code, "SES refuses a mail for good");
            self.report_refusal(user, &code, now).await?;
        }
        self.mark(LogEntry { mailed: true, ..entry }).await.map(|_| ())
    }

    /// Tells the operators that SES refuses a mail. It may refuse all of them, so the operators are told once a day for
    /// each reason.
    async fn report_refusal(&self, user: &UserId, code: &str, now: Instant) -> Result<(), Failure> {
        let id = derive(&["mail refused", code, &now.date_naive().to_string()]);
        let message = format!("SES refuses mails ({code}), first a mail to user {user}");
        let entry = open_entry(id, now, Level::Warning, Self::NAME.to_owned(), message);
        let to = Recipient::Operators;
        let inserted = self.logs.insert_once(&entry, alert(&to, MAIL_REFUSED, &entry), now).await;
        self.publish_once(&to, MAIL_REFUSED, entry, inserted).await.map(|_| ())
    }

    /// Writes the marks of an entry. The marks of an entry that has changed since it was read are not written.
    async fn mark(&self, mut entry: LogEntry) -> Result<LogEntry, Failure> {
        entry.version += 1;
        match self.logs.save(&entry).await {
            // Another invocation published or mailed the entry concurrently, or somebody has already acknowledged it.
            Err(error) if error.is_stale() => self.load(&entry.id).await,
            saved => {
                saved?;
                Ok(entry)
            }
        }
    }
}

/// Creates an entry of the log that needs action, and that nobody was told of yet.
fn open_entry(id: Uuid, occurred_at: Instant, level: Level, service: String, message: String) -> LogEntry {
    LogEntry {
        id: id.into(),
        occurred_at,
        level,
        service,
        message,
        status: LogStatus::Open,
        correlation_id: None,
        handled_by: None,
        handled_at: None,
        published: false,
        mailed: false,
        version: 1,
    }
}

/// Returns the event of a new entry of the log, from which the update for operators follows. Users get only the message
/// of their topic.
fn alert(to: &Recipient, kind: &str, entry: &LogEntry) -> Option<ErrorLogged> {
    if *to == Recipient::Operators { entry.alert(kind) } else { None }
}

fn staff_only(request: &Request) -> Result<(), Failure> {
    if request.actor()?.role.is_staff() {
        return Ok(());
    }
    Err(DomainError::Forbidden("error logs are for roles TECH_SUPPORT and ADMIN".to_owned()).into())
}

/// Builds the notification about an event. Returns `None` for events about which nobody is notified.
fn notification_for(envelope: &Envelope, low: &LowBalance) -> Option<Notification> {
    let (to, level, message) = match &envelope.event {
        Event::PortFailed(failed) => {
            let session = failed.session_id.as_ref().map_or_else(String::new, |id| format!(", with session {id}"));
            let message =
                format!("port {} of station {} failed{session}: {}", failed.port_id, failed.station_id, failed.reason);
            (Recipient::Operators, Level::Error, message)
        }
        Event::StationStatusChanged(changed) if changed.to == StationStatus::OutOfOrder => {
            (Recipient::Operators, Level::Error, format!("station {} went OUT_OF_ORDER", changed.station_id))
        }
        Event::SessionEnded(ended) => (Recipient::User(ended.user_id.clone()), Level::Info, farewell(ended)),
        Event::InvoiceGenerated(invoice) => (Recipient::User(invoice.user_id.clone()), Level::Info, invoiced(invoice)),
        Event::PaymentFailed(payment) => (Recipient::User(payment.user_id.clone()), Level::Info, unpaid(payment)),
        Event::PaymentCompleted(payment) => {
            let balance = low.reached_by(payment)?;
            (Recipient::User(payment.user_id.clone()), Level::Info, wallet_low(payment, balance))
        }
        Event::CreditNoteIssued(note) => (Recipient::User(note.user_id.clone()), Level::Info, credited(note)),
        Event::BillingFailed(failed) => {
            let message = format!("session {} cannot be billed: {}", failed.session_id, failed.reason);
            (Recipient::Operators, Level::Critical, message)
        }
        Event::TelemetryStale(stale) => {
            let level = if stale.stale { Level::Warning } else { Level::Info };
            (Recipient::Operators, level, silence(stale))
        }
        Event::TelemetryRejected(rejected) => {
            let message = format!(
                "{} messages of battery-swap station {} were rejected within {} s; the last one ({}): {}",
                rejected.count, rejected.station_id, rejected.window_seconds, rejected.rejected_key, rejected.reason
            );
            (Recipient::Operators, Level::Warning, message)
        }
        Event::StationStatusChanged(_)
        | Event::SessionStarted(_)
        | Event::StationCreated(_)
        | Event::StationUpdated(_)
        | Event::StationDeleted(_)
        | Event::PortAdded(_)
        | Event::PortRemoved(_)
        | Event::PortReset(_)
        | Event::WalletToppedUp(_)
        | Event::ErrorLogged(_)
        | Event::OcmSyncCompleted(_)
        | Event::UserRegistered(_)
        | Event::UserBlocked(_)
        | Event::UserUnblocked(_)
        | Event::UserDeleted(_) => return None,
    };
    let kind = match &envelope.event {
        Event::PaymentCompleted(_) => WALLET_LOW,
        event => event.event_type(),
    };
    let id = derive(&["notification", &envelope.event_id.to_string()]);
    let entry = LogEntry {
        // Entries of the level INFO need no action.
        status: if level == Level::Info { LogStatus::Resolved } else { LogStatus::Open },
        correlation_id: Some(envelope.correlation_id.clone()),
        ..open_entry(id, envelope.occurred_at, level, envelope.event.source().to_owned(), message)
    };
    Some(Notification { to, kind, entry })
}

fn silence(stale: &TelemetryStale) -> String {
    let (station, seconds) = (&stale.station_id, stale.silent_seconds);
    let seen = stale.last_seen_at.to_rfc3339();
    if stale.stale {
        return format!("battery-swap station {station} is silent: nothing since {seen}, {seconds} s ago");
    }
    format!("battery-swap station {station} is back after {seconds} s: heard at {seen}")
}

fn farewell(ended: &SessionEnded) -> String {
    let how = match ended.status {
        SessionStatus::Failed => "failed and will not be billed",
        SessionStatus::Interrupted => "was stopped",
        _ => "is complete",
    };
    format!(
        "session {} of user {} {how} ({}): {} kWh in {} minutes",
        ended.session_id,
        ended.user_id,
        ended.status.name(),
        ended.energy_kwh,
        ended.duration_minutes
    )
}

fn invoiced(invoice: &InvoiceGenerated) -> String {
    format!(
        "invoice {} of user {}: {} {} for session {} ({})",
        invoice.invoice_id,
        invoice.user_id,
        invoice.total_incl_vat,
        invoice.currency,
        invoice.session_id,
        invoice.status.name()
    )
}

fn unpaid(payment: &PaymentFailed) -> String {
    format!(
        "invoice {} of user {} waits for {} {}: {}",
        payment.invoice_id, payment.user_id, payment.amount, payment.currency, payment.reason
    )
}

fn wallet_low(payment: &PaymentCompleted, balance: Decimal) -> String {
    format!(
        "the wallet of user {} is low: {balance} {} after the payment of invoice {}",
        payment.user_id, payment.currency, payment.invoice_id
    )
}

fn credited(note: &CreditNoteIssued) -> String {
    format!(
        "credit note {} on invoice {} of user {}: {} {}, of which {} went back to the wallet",
        note.credit_note_id, note.invoice_id, note.user_id, note.amount, note.currency, note.refunded
    )
}
