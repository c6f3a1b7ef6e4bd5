//! Looks daily whether the books are right, and reports what is not.
//!
//! It reads both contexts' tables, which nobody else does, because it compares them; it writes neither.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use domain::Instant;
use domain::billing::{EntryKind, Invoice, InvoiceStatus, LedgerEntry, Wallet};
use domain::error::DomainError;
use domain::id::{InvoiceId, SessionId};
use domain::session::{Session, SessionStatus};
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Answer, Context, Failure, Function, Peer, Request, Trigger};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{BillingStore, InvoiceFilter, PageRequest, SessionFilter, SessionStore};

/// How far back a scheduled audit looks: a run that fails is made up for by the next six.
const WINDOW: TimeDelta = TimeDelta::days(7);
/// What ended less than this ago may still be on its way to its invoice.
const GRACE: TimeDelta = TimeDelta::minutes(15);
/// Items read at once.
const PAGE: usize = 100;
/// Wallets and reports worked at the same time.
const PARALLEL: usize = 16;
/// Kept back from the invocation's time for the reports and the answer.
const RESERVE: Duration = Duration::from_secs(30);

/// What is to be audited. Without anything the last week, up to a quarter of an hour ago.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Sessions that ended and invoices that were issued from here …
    #[serde(default)]
    pub from: Option<Instant>,
    /// … to here.
    #[serde(default)]
    pub to: Option<Instant>,
    /// Wallets from here on: the `nextToken` of an audit that ran out of time.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub next_token: Option<String>,
    /// Whether an audit that runs out of time has itself invoked again, as a scheduled one does.
    #[serde(default)]
    pub goes_on: bool,
}

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditAnswer {
    /// From here …
    pub from: Instant,
    /// … to here.
    pub to: Instant,
    /// Ended sessions looked at.
    pub sessions: usize,
    /// Invoices looked at.
    pub invoices: usize,
    /// Wallets looked at.
    pub wallets: usize,
    /// What is wrong.
    pub defects: Vec<Defect>,
    /// Where to go on with the wallets, where time ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Something wrong in the books.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Defect {
    /// What kind.
    pub kind: DefectKind,
    /// Id of the session, the invoice or the wallet's user.
    pub subject: String,
    /// What exactly.
    pub message: String,
}

/// The kinds of defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DefectKind {
    /// A billable session ended and has no invoice.
    SessionWithoutInvoice,
    /// There is no billable session behind an invoice.
    InvoiceWithoutSession,
    /// A paid invoice and the ledger do not agree.
    PaymentWithoutDebit,
    /// A wallet's ledger does not add up to its balance.
    LedgerMismatch,
}

/// The function.
#[derive(Debug)]
pub struct BillingAudit {
    sessions: SessionStore,
    billing: BillingStore,
    notifications: Peer,
    /// This function.
    itself: Peer,
}

impl Function for BillingAudit {
    const NAME: &'static str = "billing_audit";
    const DEFAULT_ACTION: Option<&'static str> = Some("audit");

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "audit" => {
                let audit: Audit = request.command()?;
                let answer = self.audit(&audit, &request.context).await?;
                if audit.goes_on {
                    self.go_on(&answer, &request.context).await?;
                }
                Answer::ok(answer)
            }
            _ => Err(request.unknown_action(&["audit"])),
        }
    }

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Event(_) = trigger else {
            return Err(Failure::invalid("payload", "must be a scheduled event"));
        };
        let answer = self.audit(&Audit::default(), &context).await?;
        self.go_on(&answer, &context).await?;
        Ok(Answer::ok(answer)?.body)
    }
}

impl BillingAudit {
    /// Over these tables; what is wrong is reported to `notifications`, and `itself` goes on where time runs out.
    #[must_use]
    pub fn new(sessions: SessionStore, billing: BillingStore, notifications: Peer, itself: Peer) -> Self {
        Self { sessions, billing, notifications, itself }
    }

    /// Hands the wallets that are left to another invocation.
    async fn go_on(&self, answer: &AuditAnswer, context: &Context) -> Result<(), Failure> {
        let Some(token) = &answer.next_token else { return Ok(()) };
        let rest = json!({ "from": answer.from, "to": answer.to, "nextToken": token, "goesOn": true });
        self.itself.command_later("audit", rest, &context.correlation_id).await
    }

    /// Audits, reports every defect once, and answers them all.
    ///
    /// # Errors
    /// A validation failure for a window that is none; unavailable when a table or the notifications cannot be reached.
    pub async fn audit(&self, audit: &Audit, context: &Context) -> Result<AuditAnswer, Failure> {
        let to = audit.to.unwrap_or(context.now - GRACE);
        let from = audit.from.unwrap_or(to - WINDOW);
        if from > to {
            return Err(DomainError::invalid("from", "must not be after to").into());
        }
        let watch = std::time::Instant::now();
        let mut answer =
            AuditAnswer { from, to, sessions: 0, invoices: 0, wallets: 0, defects: Vec::new(), next_token: None };
        // A continued audit has looked at sessions and invoices before.
        if audit.next_token.is_none() {
            self.audit_sessions(&mut answer).await?;
            self.audit_invoices(&mut answer).await?;
        }
        let mut token = audit.next_token.clone();
        loop {
            token = self.audit_wallets(&mut answer, token).await?;
            let out_of_time = context.time_left().saturating_sub(RESERVE) < watch.elapsed();
            if token.is_none() || out_of_time {
                break;
            }
        }
        answer.next_token = token;
        metrics::counter!("AuditDefects").increment(answer.defects.len() as u64);
        let reports = stream::iter(answer.defects.clone())
            .map(|defect| async move { self.report(&defect, context).await })
            .buffer_unordered(PARALLEL);
        reports.try_collect::<()>().await?;
        Ok(answer)
    }

    async fn audit_sessions(&self, answer: &mut AuditAnswer) -> Result<(), Failure> {
        for status in [SessionStatus::Completed, SessionStatus::Interrupted] {
            let filter = SessionFilter::Changed(status, answer.from, answer.to);
            let mut token = None;
            loop {
                let page = PageRequest { limit: PAGE, next_token: token };
                let page = self.sessions.list(&filter, &page, |_| true).await?;
                answer.sessions += page.items.len();
                answer.defects.extend(self.unbilled(&page.items).await?);
                token = page.next_token;
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn unbilled(&self, sessions: &[Session]) -> Result<Vec<Defect>, Failure> {
        let ids: Vec<InvoiceId> = sessions.iter().map(|session| InvoiceId::of(&session.id)).collect();
        let billed: BTreeSet<InvoiceId> = self.billing.existing(&ids).await?.into_iter().collect();
        let without = sessions.iter().zip(&ids).filter(|(_, id)| !billed.contains(id));
        let defects = without.map(|(session, _)| Defect {
            kind: DefectKind::SessionWithoutInvoice,
            subject: session.id.to_string(),
            message: format!(
                "session {} ended at {} with {} kWh and has no invoice: republishEnd sends its end to billing again",
                session.id,
                session.status_changed_at.to_rfc3339(),
                session.register().kwh()
            ),
        });
        Ok(defects.collect())
    }

    async fn audit_invoices(&self, answer: &mut AuditAnswer) -> Result<(), Failure> {
        for status in [InvoiceStatus::Open, InvoiceStatus::Paid, InvoiceStatus::Credited] {
            let filter = InvoiceFilter::Issued(status, answer.from, answer.to);
            let mut token = None;
            loop {
                let page = PageRequest { limit: PAGE, next_token: token };
                let page = self.billing.invoices(&filter, &page, |_| true).await?;
                answer.invoices += page.items.len();
                answer.defects.extend(self.unfounded(&page.items).await?);
                answer.defects.extend(self.undebited(&page.items).await?);
                token = page.next_token;
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Invoices behind which there is no billable session.
    async fn unfounded(&self, invoices: &[Invoice]) -> Result<Vec<Defect>, Failure> {
        let ids: Vec<SessionId> = invoices.iter().map(|invoice| invoice.session_id.clone()).collect();
        let ended = self.sessions.billable(&ids).await?;
        let without = invoices.iter().filter(|invoice| !ended.contains(&invoice.session_id));
        let defects = without.map(|invoice| Defect {
            kind: DefectKind::InvoiceWithoutSession,
            subject: invoice.id.to_string(),
            message: format!(
                "invoice {} over {} {} bills session {}, which is not there or not billable",
                invoice.id, invoice.bill.total_incl_vat, invoice.bill.currency, invoice.session_id
            ),
        });
        Ok(defects.collect())
    }

    /// Paid invoices whose debit is missing, or is another one's.
    async fn undebited(&self, invoices: &[Invoice]) -> Result<Vec<Defect>, Failure> {
        let checked = stream::iter(invoices.to_vec()).map(|invoice| async move { self.check_payment(&invoice).await });
        let found: Vec<Option<Defect>> = checked.buffered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn check_payment(&self, invoice: &Invoice) -> Result<Option<Defect>, Failure> {
        let Some(payment) = invoice.payment.as_ref().filter(|payment| !payment.amount.is_zero()) else {
            return Ok(None);
        };
        let entry = match payment.entry {
            Some(sequence) => self.billing.entry(&invoice.user_id, sequence).await?,
            None => None,
        };
        let booked = entry.is_some_and(|entry| {
            let right = (EntryKind::Invoice, -payment.amount, invoice.id.as_str());
            (entry.kind, entry.amount, entry.reference.as_str()) == right
        });
        Ok((!booked).then(|| Defect {
            kind: DefectKind::PaymentWithoutDebit,
            subject: invoice.id.to_string(),
            message: format!(
                "invoice {} was paid with {} {}, but the wallet of user {} has no such debit",
                invoice.id, payment.amount, invoice.bill.currency, invoice.user_id
            ),
        }))
    }

    async fn audit_wallets(&self, answer: &mut AuditAnswer, token: Option<String>) -> Result<Option<String>, Failure> {
        let page = self.billing.wallets(&PageRequest { limit: PAGE, next_token: token }).await?;
        answer.wallets += page.items.len();
        let checked = stream::iter(page.items).map(|wallet| async move { self.check_wallet(wallet).await });
        let found: Vec<Option<Defect>> = checked.buffered(PARALLEL).try_collect().await?;
        answer.defects.extend(found.into_iter().flatten());
        Ok(page.next_token)
    }

    async fn check_wallet(&self, listed: Wallet) -> Result<Option<Defect>, Failure> {
        let ledger = self.billing.whole_ledger(&listed.user_id).await?;
        let Some(reason) = mismatch(&listed, &ledger) else { return Ok(None) };
        // The list is eventually consistent and money moves meanwhile: only what holds at a second look is a defect.
        let Some(now) = self.billing.wallet(&listed.user_id).await? else { return Ok(None) };
        let again = self.billing.whole_ledger(&listed.user_id).await?;
        let moved = now.version != listed.version && mismatch(&now, &again).is_none();
        Ok((!moved).then(|| Defect {
            kind: DefectKind::LedgerMismatch,
            subject: listed.user_id.to_string(),
            message: format!("the wallet of user {}: {}", listed.user_id, mismatch(&now, &again).unwrap_or(reason)),
        }))
    }

    /// Tells the operators, once for each defect, however often it is found.
    async fn report(&self, defect: &Defect, context: &Context) -> Result<(), Failure> {
        let notify = json!({
            "level": "CRITICAL", "service": Self::NAME, "message": defect.message,
            "deduplicationKey": format!("{:?} {}", defect.kind, defect.subject)
        });
        self.notifications.command("notify", notify, &context.correlation_id).await.map(|_| ())
    }
}

/// Why a ledger does not lead to its wallet's balance.
fn mismatch(wallet: &Wallet, ledger: &[LedgerEntry]) -> Option<String> {
    let mut balance = Decimal::ZERO;
    for (sequence, entry) in (1..).zip(ledger) {
        if entry.sequence != sequence {
            return Some(format!("entry {sequence} of its ledger is missing"));
        }
        balance += entry.amount;
        if entry.balance_after != balance {
            return Some(format!("entry {sequence} says {}, its ledger adds up to {balance}", entry.balance_after));
        }
    }
    if wallet.entries != ledger.len() as u64 {
        return Some(format!("it counts {} entries, its ledger has {}", wallet.entries, ledger.len()));
    }
    (wallet.balance != balance)
        .then(|| format!("its balance is {} {}, its ledger adds up to {balance}", wallet.balance, wallet.currency))
}
