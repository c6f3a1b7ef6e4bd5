//! The `billing` Lambda: invoices, wallets, payments and credit notes.
//!
//! Requests and events may arrive twice, late or concurrently. Nevertheless each session has at most one invoice, each
//! invoice at most one debit and each top-up one credit. Two things ensure this: ids are derived from the objects that
//! they stand for, and each write is conditional on the wallet as it was read.

mod commands;
mod config;
mod view;

use commands::{
    CreateCreditNote, HoldFunds, InvoiceRef, ListInvoices, ListLedger, ReleaseFunds, TopUpWallet, WalletRef,
};
use domain::Instant;
use domain::accounts::{Area, Scope};
use domain::actor::Role;
use domain::billing::{
    CreditNote, Hold, HoldEnd, HoldRequest, Invoice, InvoiceStatus, LedgerEntry, PaymentRefusal, SettledInvoices,
    Wallet, session_has_ended,
};
use domain::charging::session::SessionEnded;
use domain::error::DomainError;
use domain::event::{Envelope, Event};
use domain::id::{CreditNoteId, InvoiceId, UserId};
use domain::machine::State;
use domain::money::Currency;
use futures::future::try_join_all;
use lambda_kit::{
    Action, Answer, Context, Failure, Function, ListOf, Redelivery, Request, Trigger, action, drive_events,
    retry_while_stale,
};
use serde_json::Value;
use store::{BillingStore, EventContext, LoadedInvoice, TopUp, UserStore};
use uuid::Uuid;

pub use config::Config;
pub use view::{EntryView, HoldView, InvoiceView, WalletView};

/// How many messages of a batch are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;

/// The `billing` function.
#[derive(Debug)]
pub struct Billing {
    store: BillingStore,
    users: UserStore,
    /// The currency of the network. A wallet has this currency until the first money is paid in.
    currency: Currency,
    redelivery: Redelivery,
}

impl Function for Billing {
    const NAME: &'static str = "billing";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("getInvoice", InvoiceRef => InvoiceView, Self::get_invoice)
            .by("the user of the invoice; staff")
            .about("Returns an invoice with its lines and credit notes.")
            .at("GET /invoices/{invoiceId}", Scope::read(Area::Billing))
            .query("invoice"),
        action!("listInvoices", ListInvoices => ListOf<InvoiceView>, Self::list_invoices)
            .by("users for their own invoices; staff for any invoices")
            .about(
                "Lists invoices, newest first. Staff must give `userId` or `status`. The OPEN invoices of one user are \
                 read consistently.",
            )
            .at("GET /invoices", Scope::read(Area::Billing))
            .query("invoices"),
        action!("payInvoice", InvoiceRef => InvoiceView, Self::pay_invoice)
            .by("the user of the invoice; staff")
            .about("Pays an OPEN invoice from the wallet. A PAID invoice is returned unchanged.")
            .at("POST /invoices/{invoiceId}/payments", Scope::write(Area::Billing))
            .mutation(),
        action!("createCreditNote", CreateCreditNote => CreditNote, Self::create_credit_note)
            .by("ADMIN")
            .about("Credits `lines` of an invoice. Without `lines`, it credits all that is left of the invoice.")
            .at("POST /invoices/{invoiceId}/credit-notes", Scope::write(Area::Billing))
            .creates()
            .mutation(),
        action!("getWallet", WalletRef => WalletView, Self::get_wallet)
            .by("users for their own wallet; staff for any wallet, by `userId`")
            .about("Returns a wallet: its balance, and the money in it that is held for prepaid sessions.")
            .at("GET /wallet", Scope::read(Area::Billing))
            .query("wallet"),
        action!("topUpWallet", TopUpWallet => WalletView, Self::top_up_wallet)
            .by("staff")
            .about(
                "Adds money that a cash desk received to the wallet of `userId`. The money pays open invoices at once, \
                 oldest first. It is refused while the user is blocked or being deleted.",
            )
            .at("POST /wallet/top-ups", Scope::write(Area::Billing))
            .creates()
            .mutation(),
        action!("listLedger", ListLedger => ListOf<EntryView>, Self::list_ledger)
            .by("users for their own wallet; staff for any wallet, by `userId`")
            .about("Lists the entries of a wallet's ledger, newest first.")
            .at("GET /wallet/ledger", Scope::read(Area::Billing))
            .query("ledger"),
        action!("holdFunds", HoldFunds => HoldView, Self::hold_funds)
            .by("SYSTEM")
            .about("Holds the money that a prepaid session may cost. The same arguments give the same hold."),
        action!("releaseFunds", ReleaseFunds => WalletView, Self::release_funds)
            .by("SYSTEM")
            .about("Releases the money that is held for a session that did not start."),
    ];

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Sqs(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be a batch of the billing queue"));
        };
        let bill = async |envelope: Envelope| self.bill(&envelope, &context).await;
        drive_events(Self::NAME, batch, PARALLEL_MESSAGES, &self.redelivery, &context, bill).await
    }
}

impl Billing {
    /// Creates the function. `users` says who is blocked; `currency` is the currency of the network; `redelivery`
    /// applies to the billing queue.
    #[must_use]
    pub fn new(store: BillingStore, users: UserStore, currency: Currency, redelivery: Redelivery) -> Self {
        Self { store, users, currency, redelivery }
    }

    /// Issues the invoice for an ended session, unless it has been issued before.
    ///
    /// Ends the hold of the session, if there is one. A FAILED session gets no invoice; only its hold ends.
    ///
    /// # Errors
    /// [`Code::Validation`](lambda_kit::Code::Validation) when the event cannot be billed.
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the table cannot be used.
    pub async fn bill(&self, envelope: &Envelope, context: &Context) -> Result<(), Failure> {
        let Event::SessionEnded(ended) = &envelope.event else {
            return Err(Failure::invalid("eventType", "must be SESSION_ENDED"));
        };
        // The events of the invoice carry the correlation id of the session, not that of this invocation.
        let context = EventContext { correlation_id: envelope.correlation_id.clone(), now: context.now };
        let Some(invoice) = Invoice::for_session(ended, context.now)? else {
            retry_while_stale(|| self.end_hold(ended, &context)).await?;
            return self.settle_open_invoices(&ended.user_id, &context).await;
        };
        let issued = retry_while_stale(|| self.issue_or_repeat(&invoice, &context)).await?;
        metrics::counter!("InvoicesIssued").increment(u64::from(issued.is_new));
        if issued.may_have_freed {
            self.settle_open_invoices(&invoice.user_id, &context).await?;
        }
        Ok(())
    }

    async fn issue_or_repeat(&self, invoice: &Invoice, context: &EventContext) -> Result<Issue, Failure> {
        if self.store.has_invoice(&invoice.id).await? {
            // The invocation that issued the invoice may have died before it paid other invoices with the freed money.
            return Ok(Issue { is_new: false, may_have_freed: true });
        }
        let issued = invoice.clone().issue(self.wallet_of(&invoice.user_id, context.now).await?, context.now);
        self.store.issue(&issued, context).await?;
        Ok(Issue { is_new: true, may_have_freed: issued.hold.is_some() })
    }

    async fn end_hold(&self, ended: &SessionEnded, context: &EventContext) -> Result<(), Failure> {
        let mut wallet = self.wallet_of(&ended.user_id, context.now).await?;
        if let Some(end) = wallet.end_hold(&ended.session_id, context.now) {
            self.save_end(&mut wallet, &end).await?;
        }
        Ok(())
    }

    async fn save_end(&self, wallet: &mut Wallet, end: &HoldEnd) -> Result<(), Failure> {
        if end.freed {
            wallet.touch();
        }
        Ok(self.store.end_hold(&wallet.user_id, &end.hold, end.freed.then_some(&*wallet)).await?)
    }

    /// Returns the wallet of a user, or a new one if the user has none.
    async fn wallet_of(&self, user: &UserId, now: Instant) -> Result<Wallet, Failure> {
        let wallet = self.store.wallet_or_new(user, self.currency, now).await?;
        Ok(wallet.in_currency_until_used(self.currency))
    }

    async fn get_invoice(&self, InvoiceRef { invoice_id }: InvoiceRef, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let loaded = self.load(&invoice_id).await?;
        actor.may_see(&loaded.invoice.user_id, &format!("invoice {invoice_id}"))?;
        Answer::ok(InvoiceView::from(&loaded))
    }

    async fn list_invoices(&self, command: ListInvoices, request: &Request) -> Result<Answer, Failure> {
        let filter = command.filter(request.actor()?)?;
        let page = command.page.clone().into();
        let page = self.store.invoices(&filter, &page, |status| command.keeps(status)).await?;
        Answer::page(page, |invoice| InvoiceView::from(&invoice))
    }

    async fn get_wallet(&self, command: WalletRef, request: &Request) -> Result<Answer, Failure> {
        let user = request.actor()?.on_behalf_of(command.user_id.as_ref())?;
        let now = request.context.now;
        Answer::ok(WalletView::new(&self.wallet_of(&user, now).await?, now))
    }

    async fn list_ledger(&self, command: ListLedger, request: &Request) -> Result<Answer, Failure> {
        let user = request.actor()?.on_behalf_of(command.user_id.as_ref())?;
        let page = self.store.ledger(&user, &command.page.into()).await?;
        Answer::page(page, |entry| EntryView::from(&entry))
    }

    async fn top_up_wallet(&self, command: TopUpWallet, request: &Request) -> Result<Answer, Failure> {
        let user = command.user(request.actor()?)?;
        let entry = retry_while_stale(|| self.top_up_or_repeat(&command, &user, &request.context)).await?;
        // A repeated request pays open invoices too: the first attempt may have died before it did.
        self.settle_open_invoices(&user, &request.context.event_context()).await?;
        let now = request.context.now;
        let view = WalletView::new(&self.wallet_of(&user, now).await?, now).with_entry(&entry);
        Answer::created("/wallet".to_owned(), view)
    }

    /// Books a top-up, or returns the entry that an earlier request with the same idempotency key created.
    async fn top_up_or_repeat(
        &self,
        command: &TopUpWallet,
        user: &UserId,
        context: &Context,
    ) -> Result<LedgerEntry, Failure> {
        let (id, fingerprint) = (command.id(user), command.fingerprint());
        if let Some((earlier, entry)) = self.store.find_top_up(user, id).await? {
            if earlier.fingerprint == fingerprint {
                return Ok(entry);
            }
            let message = "this idempotency key made another top-up: use a new key for a new request";
            return Err(DomainError::conflict(message).into());
        }
        self.may_pay_in(user).await?;
        let mut wallet = self.wallet_of(user, context.now).await?;
        let entry = wallet.top_up(command.amount, command.currency, id.to_string(), context.now)?;
        let top_up = TopUp { id, fingerprint, sequence: entry.sequence };
        self.store.top_up(&wallet, &entry, &top_up, &context.event_context()).await?;
        Ok(entry)
    }

    /// Checks that money may be paid in for a user, whoever pays it in.
    async fn may_pay_in(&self, user: &UserId) -> Result<(), Failure> {
        let status = self.users.status(user).await?;
        if status.may_charge(user).is_ok() {
            return Ok(());
        }
        let message = format!("user {user} is {}: no money may be paid into the wallet", status.name());
        Err(DomainError::Forbidden(message).into())
    }

    /// Pays the open invoices of a user, oldest first, until the available money does not cover the next one.
    ///
    /// Money that is held for sessions is not available. One transaction pays many invoices, because a user may have
    /// thousands of them.
    async fn settle_open_invoices(&self, user: &UserId, context: &EventContext) -> Result<(), Failure> {
        let currency = self.wallet_of(user, context.now).await?.currency;
        for open in self.store.open_invoices(user, currency).await?.chunks(BillingStore::SETTLED_TOGETHER) {
            if !retry_while_stale(|| self.settle_together(user, open, context)).await? {
                break;
            }
        }
        Ok(())
    }

    /// Pays invoices of one user in one transaction. Returns false if the wallet cannot pay one of them.
    async fn settle_together(
        &self,
        user: &UserId,
        open: &[InvoiceId],
        context: &EventContext,
    ) -> Result<bool, Failure> {
        let invoices = try_join_all(open.iter().map(|id| self.load(id))).await?;
        let mut wallet = self.wallet_of(user, context.now).await?;
        let invoices = invoices.into_iter().map(|loaded| loaded.invoice);
        let settled = SettledInvoices::settle(invoices, &mut wallet, context.now);
        if !settled.paid.is_empty() {
            self.store.settle(&settled.paid, &wallet, context).await?;
        }
        Ok(!settled.exhausted)
    }

    /// Pays an invoice if it is OPEN. The inner error is the refusal of the wallet.
    async fn settle(&self, id: &InvoiceId, context: &EventContext) -> Result<Result<Invoice, PaymentRefusal>, Failure> {
        let LoadedInvoice { mut invoice, .. } = self.load(id).await?;
        if invoice.status != InvoiceStatus::Open {
            return Ok(Ok(invoice));
        }
        let mut wallet = self.wallet_of(&invoice.user_id, context.now).await?;
        let entry = match invoice.settle(&mut wallet, context.now) {
            Ok(entry) => entry,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.store.settle(&[(invoice.clone(), entry)], &wallet, context).await?;
        Ok(Ok(invoice))
    }

    async fn pay_invoice(&self, InvoiceRef { invoice_id }: InvoiceRef, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let LoadedInvoice { invoice, .. } = self.load(&invoice_id).await?;
        actor.may_see(&invoice.user_id, &format!("invoice {invoice_id}"))?;
        // An invoice that is already PAID is not paid again, so that a repeated request gets the answer of the first
        // one.
        if invoice.status != InvoiceStatus::Paid {
            invoice.status.transition(InvoiceStatus::Paid, actor.role)?;
        }
        let context = request.context.event_context();
        match retry_while_stale(|| self.settle(&invoice_id, &context)).await? {
            Ok(_) => Answer::ok(InvoiceView::from(&self.load(&invoice_id).await?)),
            Err(refusal) => Err(DomainError::conflict(format!(
                "invoice {invoice_id} over {} {} cannot be paid: {refusal}",
                invoice.due(),
                invoice.bill.currency
            ))
            .into()),
        }
    }

    async fn hold_funds(&self, command: HoldFunds, request: &Request) -> Result<Answer, Failure> {
        for_the_platform(request)?;
        let asked = command.request();
        let hold = retry_while_stale(|| self.hold_or_repeat(&command.user_id, &asked, request.context.now)).await?;
        Answer::ok(HoldView::from(&hold))
    }

    /// Holds money for a session, or returns the hold that an earlier identical request created.
    async fn hold_or_repeat(&self, user: &UserId, asked: &HoldRequest, now: Instant) -> Result<Hold, Failure> {
        let mut wallet = self.wallet_of(user, now).await?;
        if let Some(hold) = wallet.standing_hold(asked, now)? {
            if !hold.attempts.contains_key(&asked.attempt) {
                self.store.join_hold(user, hold, &asked.attempt).await?;
            }
            return Ok(hold.clone());
        }
        if self.store.has_invoice(&InvoiceId::of(&asked.session_id)).await? {
            return Err(session_has_ended(&asked.session_id).into());
        }
        let due = self.store.due(user, wallet.currency).await?;
        let hold = wallet.hold(asked, due, now)?;
        self.store.hold(&wallet, &hold).await?;
        Ok(hold)
    }

    async fn release_funds(&self, command: ReleaseFunds, request: &Request) -> Result<Answer, Failure> {
        for_the_platform(request)?;
        let context = request.context.event_context();
        retry_while_stale(|| self.release(&command, context.now)).await?;
        // A repeated request pays open invoices too: the first attempt may have died before it did.
        self.settle_open_invoices(&command.user_id, &context).await?;
        Answer::ok(WalletView::new(&self.wallet_of(&command.user_id, context.now).await?, context.now))
    }

    async fn release(&self, command: &ReleaseFunds, now: Instant) -> Result<(), Failure> {
        let mut wallet = self.wallet_of(&command.user_id, now).await?;
        if let Some(end) = wallet.give_up_hold(&command.session_id, command.attempt.as_deref(), now) {
            self.save_end(&mut wallet, &end).await?;
        }
        Ok(())
    }

    async fn create_credit_note(&self, command: CreateCreditNote, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        if actor.role != Role::Admin {
            return Err(DomainError::Forbidden("credit notes are for role ADMIN".to_owned()).into());
        }
        let id = match &command.idempotency_key {
            Some(key) => CreditNoteId::for_key(&command.invoice_id, key),
            None => Uuid::now_v7().into(),
        };
        let context = request.context.event_context();
        let note = retry_while_stale(|| self.credit_or_repeat(&command, &id, actor.role, &context)).await?;
        let loaded = self.load(&command.invoice_id).await?;
        // The refunded money may pay open invoices.
        self.settle_open_invoices(&loaded.invoice.user_id, &context).await?;
        Answer::created(format!("/invoices/{}", command.invoice_id), note)
    }

    /// Creates a credit note, or returns the one that an earlier request with the same idempotency key created.
    async fn credit_or_repeat(
        &self,
        command: &CreateCreditNote,
        id: &CreditNoteId,
        role: Role,
        context: &EventContext,
    ) -> Result<CreditNote, Failure> {
        let fingerprint = command.fingerprint();
        if let Some((earlier, of)) = self.store.find_credit_note(&command.invoice_id, id).await? {
            if of == fingerprint {
                return Ok(earlier);
            }
            let message = "this idempotency key made another credit note: use a new key for a new request";
            return Err(DomainError::conflict(message).into());
        }
        let LoadedInvoice { mut invoice, credit_notes } = self.load(&command.invoice_id).await?;
        let was_open = invoice.status == InvoiceStatus::Open;
        let (lines, reason) = (command.lines.as_deref(), command.reason.clone());
        let note = invoice.credit(id.clone(), &credit_notes, lines, reason, role, context.now)?;
        let refund = if note.refunded.is_zero() {
            None
        } else {
            let mut wallet = self.wallet_of(&invoice.user_id, context.now).await?;
            let entry = wallet.refund(id.to_string(), note.refunded, context.now);
            Some((wallet, entry))
        };
        let booked = refund.as_ref().map(|(wallet, entry)| (wallet, entry));
        self.store.credit((&invoice, was_open), (&note, &fingerprint), booked, context).await?;
        Ok(note)
    }

    async fn load(&self, id: &InvoiceId) -> Result<LoadedInvoice, Failure> {
        let loaded = self.store.invoice(id).await?;
        Ok(loaded.ok_or_else(|| DomainError::not_found("invoice", id))?)
    }
}

/// The outcome of billing an ended session.
struct Issue {
    /// Whether the invoice was issued now and not earlier.
    is_new: bool,
    /// Whether a hold has ended, so that money may be available for other invoices.
    may_have_freed: bool,
}

/// Refuses every role except SYSTEM.
fn for_the_platform(request: &Request) -> Result<(), Failure> {
    match request.actor()?.role {
        Role::System => Ok(()),
        _ => Err(DomainError::Forbidden(format!("{} is for role SYSTEM", request.action)).into()),
    }
}
