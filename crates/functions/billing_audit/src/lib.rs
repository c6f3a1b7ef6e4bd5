//! Looks daily whether the books are right, and reports what is not.
//!
//! It reads both contexts' tables, which nobody else does, because it compares them; it writes neither. It reads a page
//! at a time and reports what it finds at once. What is left when its time runs out it hands to another invocation of
//! itself, so that no size is too large.

mod ledger;
mod task;

use std::collections::BTreeSet;
use std::time::{Duration, Instant as Stopwatch};

use chrono::TimeDelta;
use domain::Instant;
use domain::billing::{EntryKind, Invoice, InvoiceStatus};
use domain::charging::session::{Session, SessionStatus};
use domain::error::DomainError;
use domain::id::{InvoiceId, SessionId, UserId};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Action, Answer, Context, Failure, Function, Peer, Request, Trigger, action};
use ledger::LedgerCheck;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{BillingStore, InvoiceFilter, PageRequest, SessionFilter, SessionStore, StoreError};
use task::{Task, Tasks};

/// How far back a scheduled audit looks: a run that fails is made up for by the next six.
const WINDOW: TimeDelta = TimeDelta::days(7);
/// What ended less than this ago may still be on its way to its invoice.
const GRACE: TimeDelta = TimeDelta::minutes(15);
/// Sessions, invoices and wallets of a page.
const PAGE: usize = 100;
/// Entries of a page of a ledger.
const LEDGER_PAGE: usize = 500;
/// Pages read at the same time.
const PARALLEL_PAGES: usize = 8;
/// Payments looked up, and defects reported, at the same time for a page.
const PARALLEL: usize = 16;
/// Kept back from the invocation's time: for the pages under way, slow as they may be, and for handing on.
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
    /// What is left: the `nextToken` of an audit that ran out of time.
    #[serde(default)]
    #[schemars(length(max = 200_000))]
    pub next_token: Option<String>,
    /// Whether an audit that runs out of time has itself invoked again, as a scheduled one does.
    #[serde(default)]
    pub goes_on: bool,
}

/// What an audit found, or as much of it as there was time for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
    /// What is left, where time ran out or a page could not be read: opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Something wrong in the books.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
    const ACTIONS: &'static [Action<Self>] = &[action!("audit", Audit => AuditAnswer, Self::handle_audit)
        .by("whoever may invoke billing_audit")
        .about("Compares ended sessions, invoices and wallets.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("audit");

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

    async fn handle_audit(&self, audit: Audit, request: &Request) -> Result<Answer, Failure> {
        let answer = self.audit(&audit, &request.context).await?;
        if audit.goes_on {
            self.go_on(&answer, &request.context).await?;
        }
        Answer::ok(answer)
    }

    /// Hands what is left to another invocation.
    async fn go_on(&self, answer: &AuditAnswer, context: &Context) -> Result<(), Failure> {
        let Some(token) = &answer.next_token else { return Ok(()) };
        let rest = json!({ "from": answer.from, "to": answer.to, "nextToken": token, "goesOn": true });
        self.itself.command_later("audit", rest, &context.correlation_id).await
    }

    /// Audits as much as there is time for, but at least a page, reports every defect, and answers them.
    ///
    /// # Errors
    /// A validation failure for a window that is none; the first failure when not one page could be looked at, because
    /// a table or the notifications cannot be reached. Nothing is lost by an error: the same audit again does the same.
    pub async fn audit(&self, audit: &Audit, context: &Context) -> Result<AuditAnswer, Failure> {
        let watch = Stopwatch::now();
        let to = audit.to.unwrap_or(context.now - GRACE);
        let from = audit.from.unwrap_or(to - WINDOW);
        if from > to {
            return Err(DomainError::invalid("from", "must not be after to").into());
        }
        let mut tasks = match &audit.next_token {
            Some(token) => Tasks::parse(token)?,
            None => Tasks::of(from, to),
        };
        let mut answer =
            AuditAnswer { from, to, sessions: 0, invoices: 0, wallets: 0, defects: Vec::new(), next_token: None };
        let has_time = || watch.elapsed() < context.time_left().saturating_sub(RESERVE);
        self.work(&mut tasks, &mut answer, has_time, context).await?;
        answer.next_token = tasks.token()?;
        Ok(answer)
    }

    /// Works off tasks, some at a time, while there is time. A task that fails is left for last: one page that cannot be
    /// read must not keep the others from being looked at.
    async fn work(
        &self,
        tasks: &mut Tasks,
        answer: &mut AuditAnswer,
        has_time: impl Fn() -> bool,
        context: &Context,
    ) -> Result<(), Failure> {
        let (mut begun, mut done, mut failed) = (0, 0, Vec::new());
        let mut failure = None;
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < PARALLEL_PAGES && (begun == 0 || has_time()) {
                let Some(task) = tasks.next() else { break };
                begun += 1;
                running.push(async move {
                    let found = self.look(&task, context).await;
                    (task, found)
                });
            }
            let Some((task, found)) = running.next().await else { break };
            match found {
                Ok(found) => {
                    done += 1;
                    answer.sessions += found.sessions;
                    answer.invoices += found.invoices;
                    answer.wallets += found.wallets;
                    answer.defects.extend(found.defects);
                    tasks.go_on_with(found.rest);
                }
                Err(error) => {
                    tracing::error!(?task, cause = error.cause, "a page could not be audited: {}", error.message);
                    failed.push(task);
                    failure.get_or_insert(error);
                }
            }
        }
        drop(running);
        tasks.leave_for_last(failed);
        match failure {
            Some(failure) if done == 0 => Err(failure),
            _ => Ok(()),
        }
    }

    /// Looks at the page of a task and reports its defects.
    async fn look(&self, task: &Task, context: &Context) -> Result<Found, Failure> {
        let found = match task.clone() {
            Task::Sessions { status, from, to, token } => self.look_at_sessions(status, (from, to), token).await?,
            Task::Invoices { status, from, to, token } => self.look_at_invoices(status, (from, to), token).await?,
            Task::Wallets { token } => self.look_at_wallets(token).await?,
            Task::Ledger { check, token } => self.look_at_ledger(check, token).await?,
        };
        let reports =
            stream::iter(found.defects.clone()).map(|defect| async move { self.report(&defect, context).await });
        reports.buffer_unordered(PARALLEL).try_collect::<()>().await?;
        metrics::counter!("AuditDefects").increment(found.defects.len() as u64);
        Ok(found)
    }

    async fn look_at_sessions(
        &self,
        status: SessionStatus,
        (from, to): (Instant, Instant),
        token: Option<String>,
    ) -> Result<Found, Failure> {
        let page = PageRequest { limit: PAGE, next_token: token };
        let page = self.sessions.list(&SessionFilter::Changed(status, from, to), &page, |_| true).await?;
        let next = page.next_token.map(|token| Task::Sessions { status, from, to, token: Some(token) });
        let defects = self.unbilled(&page.items).await?;
        Ok(Found { sessions: page.items.len(), defects, rest: next.into_iter().collect(), ..Found::default() })
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

    async fn look_at_invoices(
        &self,
        status: InvoiceStatus,
        (from, to): (Instant, Instant),
        token: Option<String>,
    ) -> Result<Found, Failure> {
        let page = PageRequest { limit: PAGE, next_token: token };
        let page = self.billing.invoices(&InvoiceFilter::Issued(status, from, to), &page, |_| true).await?;
        let next = page.next_token.map(|token| Task::Invoices { status, from, to, token: Some(token) });
        let mut defects = self.unfounded(&page.items).await?;
        defects.extend(self.undebited(&page.items).await?);
        Ok(Found { invoices: page.items.len(), defects, rest: next.into_iter().collect(), ..Found::default() })
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

    async fn look_at_wallets(&self, token: Option<String>) -> Result<Found, Failure> {
        let page = self.billing.wallets(&PageRequest { limit: PAGE, next_token: token }).await?;
        let ledgers = page.items.iter().map(|wallet| Task::Ledger { check: LedgerCheck::of(wallet), token: None });
        let next = page.next_token.map(|token| Task::Wallets { token: Some(token) });
        Ok(Found { wallets: page.items.len(), rest: ledgers.chain(next).collect(), ..Found::default() })
    }

    async fn look_at_ledger(&self, mut check: LedgerCheck, token: Option<String>) -> Result<Found, Failure> {
        let first = token.is_none();
        let page = self.billing.ledger(&check.user_id, &PageRequest { limit: LEDGER_PAGE, next_token: token }).await;
        let page = match page {
            // An entry that cannot be read is a defect of the books, not of the audit.
            Err(error @ StoreError::Corrupt { .. }) => return Ok(Found::mismatch(&check, &error.to_string())),
            page => page?,
        };
        // Entries that were booked since the wallet was read are right, as long as the wallet knows of them now.
        let newest = page.items.first().map_or(0, |entry| entry.sequence);
        if first && newest > check.sequence {
            let known = self.billing.wallet(&check.user_id).await?.map_or(0, |wallet| wallet.entries);
            if newest > known {
                let reason = format!("it counts {known} entries, its ledger has {newest}");
                return Ok(Found::mismatch(&check, &reason));
            }
        }
        let followed = check.follow(&page.items);
        let followed = followed.and_then(|()| if page.next_token.is_none() { check.finish() } else { Ok(()) });
        if let Err(reason) = followed {
            return Ok(Found::mismatch(&check, &reason));
        }
        let next = page.next_token.map(|token| Task::Ledger { check, token: Some(token) });
        Ok(Found { rest: next.into_iter().collect(), ..Found::default() })
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

/// What a page showed.
#[derive(Debug, Default)]
struct Found {
    sessions: usize,
    invoices: usize,
    wallets: usize,
    defects: Vec<Defect>,
    /// What is to be looked at next because of it.
    rest: Vec<Task>,
}

impl Found {
    fn mismatch(check: &LedgerCheck, reason: &str) -> Self {
        let user: &UserId = &check.user_id;
        let defect = Defect {
            kind: DefectKind::LedgerMismatch,
            subject: user.to_string(),
            message: format!("the wallet of user {user}: {reason}"),
        };
        Self { defects: vec![defect], ..Self::default() }
    }
}
