mod holds;
mod rows;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use domain::billing::{CreditNote, Hold, Invoice, InvoiceStatus, Issued, LedgerEntry, Wallet, WalletToppedUp};
use domain::event::Event;
use domain::id::{CreditNoteId, InvoiceId, SessionId, UserId};
use domain::machine::State;
use domain::money::Currency;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::dynamodb::{
    Db, Page, PageRequest, Query, Range, Table, Transaction, UpdateExpression, decode, delete_if, encode, key, outbox,
    readable, time,
};
use crate::error::StoreError;
use crate::keys::billing::{BY_STATUS, BY_USER};
use crate::{EventContext, keys};
use rows::{CreditNoteRow, EntryRow, FailureRow, InvoiceRow, LineRow, OpenInvoiceRow, TopUpRow, WalletRow};

/// Invoices, and wallets with their ledgers and holds, in the billing table.
#[derive(Clone, Debug)]
pub struct BillingStore {
    table: Table,
}

/// An invoice as read, with its credit notes.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedInvoice {
    /// The invoice.
    pub invoice: Invoice,
    /// The credit notes on the invoice.
    pub credit_notes: Vec<CreditNote>,
}

/// A completed top-up.
#[derive(Clone, Debug, PartialEq)]
pub struct TopUp {
    /// Id of the top-up, derived from the user and the idempotency key.
    pub id: Uuid,
    /// Fingerprint of the request. It distinguishes a repeated request from another request with the same key.
    pub fingerprint: String,
    /// Number of the top-up's ledger entry.
    pub sequence: u64,
}

/// Selects the invoices to list, newest first.
#[derive(Clone, Debug)]
pub enum InvoiceFilter {
    /// The invoices of a user.
    User(UserId),
    /// The OPEN invoices of a user. They are read consistently, from the items by which top-ups find them.
    OpenOf(UserId),
    /// The invoices in a status.
    Status(InvoiceStatus),
    /// The invoices in a status that were issued from the first instant to the second.
    Issued(InvoiceStatus, Instant, Instant),
}

impl BillingStore {
    /// The maximum number of invoices that [`Self::settle`] takes: each needs three writes and the wallet needs one,
    /// and a transaction is limited to 100 writes.
    pub const SETTLED_TOGETHER: usize = 33;

    /// Creates the store for `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Reads an invoice with its credit notes (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn invoice(&self, id: &InvoiceId) -> Result<Option<LoadedInvoice>, StoreError> {
        let pk = keys::invoice(id);
        let items = self.table.query_all(&Self::partition(&pk, None)).await?;
        if items.is_empty() {
            return Ok(None);
        }
        rows::assemble(&pk, items).map(Some)
    }

    /// Returns whether an invoice with this id exists.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn has_invoice(&self, id: &InvoiceId) -> Result<bool, StoreError> {
        let row: Option<InvoiceRow> = self.table.get(&keys::invoice(id), keys::METADATA, true).await?;
        Ok(row.is_some())
    }

    /// Returns the ids that have an invoice.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn existing(&self, ids: &[InvoiceId]) -> Result<Vec<InvoiceId>, StoreError> {
        let wanted = ids.iter().map(|id| key(&keys::invoice(id), keys::METADATA)).collect();
        let items = self.table.batch_get_keys(wanted, true).await?;
        items.into_iter().map(|item| decode::<InvoiceRow>("invoice", item)?.id()).collect()
    }

    /// Reads a wallet with its holds (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn wallet(&self, user: &UserId) -> Result<Option<Wallet>, StoreError> {
        let (wallet, holds) = self.funds(user).await?;
        Ok(wallet.map(|wallet| Wallet { holds, ..wallet }))
    }

    /// Reads a wallet with its holds (consistent read). If there is no wallet, returns a new one in `currency`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn wallet_or_new(&self, user: &UserId, currency: Currency, now: Instant) -> Result<Wallet, StoreError> {
        let (wallet, holds) = self.funds(user).await?;
        let wallet = wallet.unwrap_or_else(|| Wallet::open(user.clone(), currency, now));
        Ok(Wallet { holds, ..wallet })
    }

    async fn funds(&self, user: &UserId) -> Result<(Option<Wallet>, Vec<Hold>), StoreError> {
        let pk = keys::wallet(user);
        rows::funds(&pk, self.table.query_all(&Self::partition(&pk, Some(keys::BALANCE))).await?)
    }

    /// Writes a new invoice with its lines and events, in one transaction with the changes of the wallet: a debit with
    /// its ledger entry, or only the record that the invoice waits for the wallet's money.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the invoice already exists or the wallet has changed since it was read.
    pub async fn issue(&self, issued: &Issued, context: &EventContext) -> Result<(), StoreError> {
        let Issued { invoice, wallet, entry, hold, generated, payment } = issued;
        let pk = keys::invoice(&invoice.id);
        let mut transaction = Transaction::new();
        let events: [Event; 2] = [generated.clone().into(), payment.clone().into()];
        let outbox = outbox(&pk, keys::METADATA, invoice.version, events, context)?;
        transaction.insert(self.table.name(), encode(&pk, InvoiceRow::new(invoice, outbox))?)?;
        for (number, line) in (1..).zip(&invoice.bill.lines) {
            transaction.insert(self.table.name(), encode(&pk, LineRow::new(&pk, number, line))?)?;
        }
        if invoice.status == InvoiceStatus::Open {
            transaction.insert(self.table.name(), encode(&pk, OpenInvoiceRow::new(invoice))?)?;
        }
        if let Some(end) = hold {
            self.forget_hold(&mut transaction, &invoice.user_id, &end.hold)?;
        }
        self.book(&mut transaction, wallet.as_ref(), entry.as_slice())?;
        transaction.commit(self.table.db()).await
    }

    /// Writes in one transaction that invoices which waited for money were paid from one wallet. At most
    /// [`Self::SETTLED_TOGETHER`] invoices fit.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if an invoice or the wallet has changed since it was read.
    pub async fn settle(
        &self,
        paid: &[(Invoice, LedgerEntry)],
        wallet: &Wallet,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        for (invoice, entry) in paid {
            self.change(&mut transaction, invoice, invoice.payment_event(Ok(Some(entry))), context)?;
            self.no_longer_open(&mut transaction, invoice)?;
        }
        let entries: Vec<LedgerEntry> = paid.iter().map(|(_, entry)| entry.clone()).collect();
        self.book(&mut transaction, Some(wallet), &entries)?;
        transaction.commit(self.table.db()).await
    }

    /// Writes a credit note on an invoice and its refund, if there is one, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the credit note already exists, or if the invoice or the wallet has changed
    /// since it was read.
    pub async fn credit(
        &self,
        (invoice, was_open): (&Invoice, bool),
        (note, fingerprint): (&CreditNote, &str),
        refund: Option<(&Wallet, &LedgerEntry)>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let pk = keys::invoice(&invoice.id);
        let mut transaction = Transaction::new();
        transaction.insert(self.table.name(), encode(&pk, CreditNoteRow::new(&pk, note, fingerprint)?)?)?;
        let (wallet, entry) = refund.unzip();
        self.change(&mut transaction, invoice, note.issued_event(invoice, entry), context)?;
        if was_open && invoice.status != InvoiceStatus::Open {
            self.no_longer_open(&mut transaction, invoice)?;
        }
        self.book(&mut transaction, wallet, entry.map_or(&[], std::slice::from_ref))?;
        transaction.commit(self.table.db()).await
    }

    /// Returns the credit note with this id, and the fingerprint of its request.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the credit note cannot be decoded.
    pub async fn find_credit_note(
        &self,
        invoice: &InvoiceId,
        id: &CreditNoteId,
    ) -> Result<Option<(CreditNote, String)>, StoreError> {
        let (pk, sk) = (keys::invoice(invoice), keys::credit_note(id));
        let row: Option<CreditNoteRow> = self.table.get(&pk, &sk, true).await?;
        row.map(CreditNoteRow::into_note).transpose()
    }

    /// Pays money into a wallet, once per top-up id, in one transaction with the event of the top-up.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the top-up already exists or the wallet has changed since it was read.
    pub async fn top_up(
        &self,
        wallet: &Wallet,
        entry: &LedgerEntry,
        top_up: &TopUp,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let (pk, sk) = (keys::wallet(&wallet.user_id), keys::top_up(top_up.id));
        let mut transaction = Transaction::new();
        // The event is on the item of the top-up, which is written only once. The balance changes often.
        let outbox = outbox(&pk, &sk, 1, [WalletToppedUp::new(wallet, entry)], context)?;
        transaction.insert(self.table.name(), encode(&pk, TopUpRow::new(&pk, top_up, outbox))?)?;
        self.book(&mut transaction, Some(wallet), std::slice::from_ref(entry))?;
        transaction.commit(self.table.db()).await
    }

    /// Returns the top-up with this id, and its ledger entry.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the ledger entry is missing.
    pub async fn find_top_up(&self, user: &UserId, id: Uuid) -> Result<Option<(TopUp, LedgerEntry)>, StoreError> {
        let pk = keys::wallet(user);
        let Some(row) = self.table.get::<TopUpRow>(&pk, &keys::top_up(id), true).await? else {
            return Ok(None);
        };
        let entry = self.entry(user, row.sequence).await?;
        let entry = entry.ok_or_else(|| StoreError::corrupt(&pk, "a top-up without its entry"))?;
        Ok(Some((TopUp { id, fingerprint: row.fingerprint, sequence: row.sequence }, entry)))
    }

    /// Returns the invoices in `currency` that wait for a wallet's money, oldest first (consistent read). Items that
    /// were written before their currency was stored are included, whatever their currency is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn open_invoices(&self, user: &UserId, currency: Currency) -> Result<Vec<InvoiceId>, StoreError> {
        let pk = keys::wallet(user);
        let mut open = Vec::new();
        for item in self.table.query_all(&Self::partition(&pk, Some(keys::OPEN_INVOICES))).await? {
            let row: OpenInvoiceRow = decode(&pk, item)?;
            if row.currency.is_none_or(|of| of == currency) {
                open.push(row.invoice_id);
            }
        }
        Ok(open)
    }

    /// Returns the total amount due, in `currency`, on the invoices that wait for a wallet's money (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn due(&self, user: &UserId, currency: Currency) -> Result<Decimal, StoreError> {
        let open = self.open_invoices(user, currency).await?;
        let wanted = open.iter().map(|id| key(&keys::invoice(id), keys::METADATA)).collect();
        let mut due = Decimal::ZERO;
        for item in self.table.batch_get_keys(wanted, true).await? {
            let open = decode::<InvoiceRow>("invoice", item)?.due();
            due += open.filter(|(of, _)| *of == currency).map_or(Decimal::ZERO, |(_, due)| due);
        }
        Ok(due)
    }

    /// Lists invoices with their lines, newest first. `keep` filters by what the index cannot filter.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn invoices(
        &self,
        filter: &InvoiceFilter,
        page: &PageRequest,
        keep: impl Fn(InvoiceStatus) -> bool,
    ) -> Result<Page<Invoice>, StoreError> {
        let list = format!("invoices {filter:?}");
        let (index, partition, range) = match filter {
            InvoiceFilter::OpenOf(user) => return self.open_of(user, &list, page).await,
            InvoiceFilter::User(user) => (&BY_USER, user.to_string(), Range::All),
            InvoiceFilter::Status(of) => (&BY_STATUS, of.name().to_owned(), Range::All),
            InvoiceFilter::Issued(of, from, to) => {
                (&BY_STATUS, of.name().to_owned(), Range::Between(time::text(from), time::text(to)))
            }
        };
        let query = Query { index: Some(index), partition, range, newest_first: true, ..Query::default() };
        let decode_row = |item| decode::<InvoiceRow>("invoice", item);
        let page = self.table.list(&query, &list, page, decode_row, |row| keep(row.status)).await?;
        Ok(Page { items: self.with_lines(page.items, false).await?, next_token: page.next_token })
    }

    async fn open_of(&self, user: &UserId, list: &str, page: &PageRequest) -> Result<Page<Invoice>, StoreError> {
        let pk = keys::wallet(user);
        let query = Query { newest_first: true, ..Self::partition(&pk, Some(keys::OPEN_INVOICES)) };
        let decode_row = |item| decode::<OpenInvoiceRow>(&pk, item);
        let page = self.table.list(&query, list, page, decode_row, |_| true).await?;
        let wanted = page.items.iter().map(|open| key(&keys::invoice(&open.invoice_id), keys::METADATA)).collect();
        let mut found: HashMap<String, InvoiceRow> = HashMap::new();
        for item in self.table.batch_get_keys(wanted, true).await? {
            found.extend(readable(decode::<InvoiceRow>("invoice", item)).map(|row| (row.pk.clone(), row)));
        }
        let rows = page.items.iter().filter_map(|open| found.remove(&keys::invoice(&open.invoice_id)));
        // An invoice may have been paid after the query.
        let rows = rows.filter(|row| row.status == InvoiceStatus::Open).collect();
        Ok(Page { items: self.with_lines(rows, true).await?, next_token: page.next_token })
    }

    async fn with_lines(&self, rows: Vec<InvoiceRow>, consistent: bool) -> Result<Vec<Invoice>, StoreError> {
        let wanted = rows.iter().flat_map(|row| (1..=row.lines).map(|number| key(&row.pk, &keys::line(number))));
        let mut lines: Vec<LineRow> = Vec::new();
        for item in self.table.batch_get_keys(wanted.collect(), consistent).await? {
            lines.extend(readable(decode::<LineRow>("invoice line", item)));
        }
        lines.sort_by(|a, b| a.sk.cmp(&b.sk));
        let invoices = rows.into_iter().filter_map(|row| {
            let own = lines.iter().filter(|line| line.pk == row.pk).map(LineRow::line).collect();
            readable(row.into_invoice(own))
        });
        Ok(invoices.collect())
    }

    /// Returns a page of a wallet's ledger, newest first.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn ledger(&self, user: &UserId, page: &PageRequest) -> Result<Page<LedgerEntry>, StoreError> {
        let pk = keys::wallet(user);
        let list = format!("ledger of {user}");
        let query = Query { newest_first: true, ..Self::partition(&pk, Some(keys::ENTRIES)) };
        let decode = |item| decode::<EntryRow>(&pk, item)?.into_entry();
        self.table.list(&query, &list, page, decode, |_| true).await
    }

    /// Returns an entry of a wallet's ledger.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn entry(&self, user: &UserId, sequence: u64) -> Result<Option<LedgerEntry>, StoreError> {
        let (pk, sk) = (keys::wallet(user), keys::entry(sequence));
        let row: Option<EntryRow> = self.table.get(&pk, &sk, true).await?;
        row.map(EntryRow::into_entry).transpose()
    }

    /// Returns the whole ledger of a wallet, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn whole_ledger(&self, user: &UserId) -> Result<Vec<LedgerEntry>, StoreError> {
        let pk = keys::wallet(user);
        rows::entries(&pk, self.table.query_all(&Self::partition(&pk, Some(keys::ENTRIES))).await?)
    }

    /// Lists every wallet, newest first, without its holds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn wallets(&self, page: &PageRequest) -> Result<Page<Wallet>, StoreError> {
        let query = Query {
            index: Some(&BY_STATUS),
            partition: rows::WALLET_STATUS.to_owned(),
            newest_first: true,
            ..Query::default()
        };
        let decode = |item| decode::<WalletRow>("wallet", item)?.into_wallet();
        self.table.list(&query, "wallets", page, decode, |_| true).await
    }

    /// Records, only once, that a session could not be billed, with the event of the failure.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the failure is already recorded.
    pub async fn record_failure(
        &self,
        session: &SessionId,
        reason: &str,
        event: impl Into<Event>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let pk = keys::billing_failure(session);
        let row = FailureRow {
            sk: keys::METADATA.to_owned(),
            reason: reason.to_owned(),
            failed_at: context.now,
            outbox: outbox(&pk, keys::METADATA, 1, [event], context)?,
            pk: pk.clone(),
        };
        self.table.insert(encode(&pk, row)?).await
    }

    fn partition(pk: &str, prefix: Option<&str>) -> Query {
        Query {
            partition: pk.to_owned(),
            range: prefix.map_or(Range::All, |prefix| Range::Prefix(prefix.to_owned())),
            consistent: true,
            covering: true,
            ..Query::default()
        }
    }

    /// Writes a changed wallet, and the ledger entries of the money that moved.
    fn book(
        &self,
        transaction: &mut Transaction,
        wallet: Option<&Wallet>,
        entries: &[LedgerEntry],
    ) -> Result<(), StoreError> {
        let Some(wallet) = wallet else { return Ok(()) };
        let pk = keys::wallet(&wallet.user_id);
        let mut row = encode(&pk, WalletRow::new(wallet))?;
        if wallet.version == 1 {
            transaction.insert(self.table.name(), row)?;
        } else {
            row.remove(keys::PK);
            row.remove(keys::SK);
            let update = UpdateExpression::new().set_all(row, &[]).only_version(wallet.version - 1);
            transaction.update(update.build(self.table.name(), key(&pk, keys::BALANCE))?);
        }
        for entry in entries {
            transaction.insert(self.table.name(), encode(&pk, EntryRow::new(&pk, entry))?)?;
        }
        Ok(())
    }

    /// Writes the attributes of a sealed invoice that may change: its status, its payment and the credited amount.
    fn change(
        &self,
        transaction: &mut Transaction,
        invoice: &Invoice,
        event: impl Into<Event>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let pk = keys::invoice(&invoice.id);
        let outbox = outbox(&pk, keys::METADATA, invoice.version, [event], context)?;
        let changed = InvoiceRow::new(invoice, outbox).changeable(&pk)?;
        let update = UpdateExpression::new().set_all(changed, &[]).only_version(invoice.version - 1);
        transaction.update(update.build(self.table.name(), key(&pk, keys::METADATA))?);
        Ok(())
    }

    fn no_longer_open(&self, transaction: &mut Transaction, invoice: &Invoice) -> Result<(), StoreError> {
        let waiting = key(&keys::wallet(&invoice.user_id), &keys::open_invoice(&invoice.issued_at, &invoice.id));
        let is = AttributeValue::S(invoice.id.to_string());
        transaction.delete(delete_if(self.table.name(), waiting, "invoiceId", is)?);
        Ok(())
    }
}
