//! The `billing_audit` Lambda: compares sessions, invoices and wallets every day and reports defects.
//!
//! The audit is the only function that reads both the session table and the billing table, because it compares them. It
//! writes neither. It reads one page at a time and reports the defects of a page at once. If time runs out, it invokes
//! itself again for the rest, so that it can audit any amount of data.

mod config;
mod ledger;
mod task;

use std::collections::BTreeSet;
use std::time::{Duration, Instant as Stopwatch};

use chrono::TimeDelta;
use domain::Instant;
use domain::billing::{EntryKind, Invoice, InvoiceStatus};
use domain::charging::session::{Session, SessionStatus};
use domain::error::{Chain, DomainError};
use domain::id::{InvoiceId, SessionId, UserId};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Action, Answer, Context, Failure, Function, RemoteFunction, Request, Trigger, action};
use ledger::LedgerCheck;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{BillingStore, InvoiceFilter, PageRequest, SessionFilter, SessionStore, StoreError};
use task::{Task, Tasks};

pub use config::Config;

/// The window of a scheduled audit. Because it is seven days, the next six audits make up for one that fails.
const WINDOW: TimeDelta = TimeDelta::days(7);
/// Sessions that ended less than this ago are not audited: their invoices may not have been issued yet.
const GRACE: TimeDelta = TimeDelta::minutes(15);
/// The number of sessions, invoices or wallets on a page.
const PAGE: usize = 100;
/// The number of ledger entries on a page.
const LEDGER_PAGE: usize = 500;
/// How many pages are audited concurrently.
const PARALLEL_PAGES: usize = 8;
/// How many payments are looked up, and how many defects are reported, concurrently for one page.
const PARALLEL: usize = 16;
/// The part of the invocation's time that is reserved for slow pages that are still being read, and for passing on the
/// rest.
const RESERVE: Duration = Duration::from_secs(30);

/// Arguments of an audit. By default it covers the seven days up to 15 minutes ago.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// The start of the window: audit sessions that ended and invoices that were issued at this time or later. The
    /// default is seven days before `to`.
    #[serde(default)]
    pub from: Option<Instant>,
    /// The end of the window. The default is 15 minutes ago.
    #[serde(default)]
    pub to: Option<Instant>,
    /// The `nextToken` of an audit that ran out of time: audit the rest of it.
    #[serde(default)]
    #[schemars(length(max = 200_000))]
    pub next_token: Option<String>,
    /// Whether the audit invokes itself again if it runs out of time, as a scheduled audit does. The default is false.
    #[serde(default)]
    pub goes_on: bool,
}

/// The result of an audit, or of the part for which there was time.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditAnswer {
    /// The start of the audited window.
    pub from: Instant,
    /// The end of the audited window.
    pub to: Instant,
    /// The number of audited sessions.
    pub sessions: usize,
    /// The number of audited invoices.
    pub invoices: usize,
    /// The number of audited wallets.
    pub wallets: usize,
    /// The defects that were found.
    pub defects: Vec<Defect>,
    /// An opaque token for auditing the rest; absent if everything was audited. There is a rest if time ran out or a
    /// page could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A defect in the books.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defect {
    /// The kind of the defect.
    pub kind: DefectKind,
    /// The id of the session, of the invoice or of the wallet's owner.
    pub subject: String,
    /// A description of the defect.
    pub message: String,
}

/// The kinds of defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DefectKind {
    /// A billable session ended and has no invoice.
    SessionWithoutInvoice,
    /// An invoice bills a session that does not exist or is not billable.
    InvoiceWithoutSession,
    /// An invoice is paid, but the ledger has no matching debit.
    PaymentWithoutDebit,
    /// The ledger of a wallet does not add up to the balance.
    LedgerMismatch,
}

/// The `billing_audit` function.
#[derive(Debug)]
pub struct BillingAudit {
    sessions: SessionStore,
    billing: BillingStore,
    notifications: RemoteFunction,
    /// This function, invoked again if time runs out.
    itself: RemoteFunction,
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
    /// Creates the function. It reports defects to `notifications`, and invokes `itself` again if time runs out.
    #[must_use]
    pub fn new(
        sessions: SessionStore,
        billing: BillingStore,
        notifications: RemoteFunction,
        itself: RemoteFunction,
    ) -> Self {
        Self { sessions, billing, notifications, itself }
    }

    async fn handle_audit(&self, audit: Audit, request: &Request) -> Result<Answer, Failure> {
        let answer = self.audit(&audit, &request.context).await?;
        if audit.goes_on {
            self.go_on(&answer, &request.context).await?;
        }
        Answer::ok(answer)
    }

    /// Invokes this function again for the rest of an audit, if there is one.
    async fn go_on(&self, answer: &AuditAnswer, context: &Context) -> Result<(), Failure> {
        let Some(token) = &answer.next_token else { return Ok(()) };
        let rest = json!({ "from": answer.from, "to": answer.to, "nextToken": token, "goesOn": true });
        self.itself.command_later("audit", rest, &context.correlation_id).await
    }

    /// Audits as much as time allows, but at least one page, and reports every defect.
    ///
    /// # Errors
    /// [`Code::Validation`](lambda_kit::Code::Validation) when `from` is after `to` or the token is not one of an
    /// audit. When no page at all could be audited, the first failure, e.g. because a table or the notifications cannot
    /// be reached. Nothing is lost by an error: the same audit can be repeated.
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

    /// Runs tasks concurrently while there is time. A task that fails moves to the end of the queue, so that one
    /// unreadable page does not keep the other pages from being audited.
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
                    tracing::error!(?task, cause = error.cause(), "a page could not be audited: {}", error.message());
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

    /// Audits the page of a task and reports its defects.
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

    /// Returns a defect for each invoice without a billable session.
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

    /// Returns a defect for each paid invoice whose debit is missing or does not match.
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
            // An entry that cannot be parsed is a defect of the books, not of the audit.
            Err(error @ StoreError::Corrupt { .. }) => return Ok(Found::mismatch(&check, &Chain(&error).to_string())),
            page => page?,
        };
        // Entries booked after the wallet was read are correct as long as the current wallet counts them.
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

    /// Notifies the operators. However often a defect is found, they are notified of it once.
    async fn report(&self, defect: &Defect, context: &Context) -> Result<(), Failure> {
        let notify = json!({
            "level": "CRITICAL", "service": Self::NAME, "message": defect.message,
            "deduplicationKey": format!("{:?} {}", defect.kind, defect.subject)
        });
        self.notifications.command("notify", notify, &context.correlation_id).await.map(|_| ())
    }
}

/// The result of auditing one page.
#[derive(Debug, Default)]
struct Found {
    sessions: usize,
    invoices: usize,
    wallets: usize,
    defects: Vec<Defect>,
    /// The tasks that follow from this page.
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
