use domain::actor::Actor;
use domain::billing::{CreditLine, HoldRequest, InvoiceStatus, SOLE_ATTEMPT};
use domain::error::DomainError;
use domain::id::{InvoiceId, SessionId, UserId, derive};
use domain::money::{Currency, decimal_schema, optional_decimal_schema};
use lambda_kit::PageArguments;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use store::InvoiceFilter;
use uuid::Uuid;

/// A reference to one invoice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceRef {
    /// The id of the invoice.
    pub invoice_id: InvoiceId,
}

/// Arguments of a list of invoices.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListInvoices {
    /// Return only invoices of this user. The default is the actor; staff name `userId` or `status`.
    #[serde(default)]
    user_id: Option<UserId>,
    /// Return only invoices with this status.
    #[serde(default)]
    status: Option<InvoiceStatus>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A reference to the wallet of one user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletRef {
    /// The owner of the wallet. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

/// A payment into a wallet.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopUpWallet {
    /// The owner of the wallet. The default is the actor.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The amount that was paid in, in `currency`.
    #[schemars(schema_with = "decimal_schema")]
    pub amount: Decimal,
    /// The currency of `amount` (ISO 4217). It must be the currency of the wallet; the first top-up determines it.
    pub currency: Currency,
    /// The idempotency key. A request of the same user with the same key is the same top-up.
    #[schemars(length(min = 1, max = 255))]
    idempotency_key: String,
}

/// A request to hold money for a prepaid session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldFunds {
    /// The owner of the wallet.
    pub user_id: UserId,
    /// The session that may spend the money.
    session_id: SessionId,
    /// The currency of the station's tariff (ISO 4217).
    currency: Currency,
    /// The maximum cost of the session, including VAT. Without it all available money is held.
    #[serde(default)]
    #[schemars(schema_with = "optional_decimal_schema")]
    max_cost: Option<Decimal>,
    /// The attempt to start the session. Repetitions of a request that may run concurrently name different attempts.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    attempt: Option<String>,
}

/// A request to release the money that is held for a session that did not start.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFunds {
    /// The owner of the wallet.
    pub user_id: UserId,
    /// The session that did not start.
    pub session_id: SessionId,
    /// The attempt to start the session that was abandoned. Without it all attempts were abandoned.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub attempt: Option<String>,
}

/// Arguments of a list of ledger entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListLedger {
    /// The owner of the wallet. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A request for a credit note on an invoice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateCreditNote {
    /// The invoice to credit.
    pub invoice_id: InvoiceId,
    /// The reason for the credit note. It must not contain personal data.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
    /// The lines of the invoice to credit. Without them everything that has not been credited yet is credited.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    pub lines: Option<Vec<CreditLine>>,
    /// The idempotency key. A request for the same invoice with the same key is the same credit note.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    pub idempotency_key: Option<String>,
}

impl ListInvoices {
    /// Returns the filter whose index serves the list. Users see only their own invoices.
    ///
    /// # Errors
    /// [`DomainError::Forbidden`] when a user names another user. [`DomainError::Validation`] when staff name neither a
    /// user nor a status.
    pub fn filter(&self, actor: &Actor) -> Result<InvoiceFilter, DomainError> {
        match (&self.user_id, self.status) {
            (None, Some(status)) if actor.role.is_staff() => Ok(InvoiceFilter::Status(status)),
            (None, None) if actor.role.is_staff() => {
                Err(DomainError::invalid("userId", "one of userId and status is required"))
            }
            (user, Some(InvoiceStatus::Open)) => actor.on_behalf_of(user.as_ref()).map(InvoiceFilter::OpenOf),
            (user, _) => actor.on_behalf_of(user.as_ref()).map(InvoiceFilter::User),
        }
    }

    /// Returns whether an invoice with this status passes the condition that the index does not cover.
    pub fn keeps(&self, status: InvoiceStatus) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
    }
}

impl HoldFunds {
    /// Converts the command to the request of the domain.
    pub fn request(&self) -> HoldRequest {
        HoldRequest {
            session_id: self.session_id.clone(),
            attempt: self.attempt.clone().unwrap_or_else(|| SOLE_ATTEMPT.to_owned()),
            currency: self.currency,
            max_cost: self.max_cost,
        }
    }
}

impl TopUpWallet {
    /// Returns the owner of the wallet into which `actor` pays.
    ///
    /// # Errors
    /// [`DomainError::Forbidden`] when the actor is not staff: there is no payment provider that could confirm a
    /// payment by the users themselves.
    pub fn user(&self, actor: &Actor) -> Result<UserId, DomainError> {
        if !actor.role.is_staff() {
            let message = "top-ups are for roles TECH_SUPPORT, ADMIN and SYSTEM: users pay in at the cash desk";
            return Err(DomainError::Forbidden(message.to_owned()));
        }
        actor.on_behalf_of(self.user_id.as_ref())
    }

    /// Derives the id of the top-up from the user and the idempotency key.
    pub fn id(&self, user: &UserId) -> Uuid {
        derive(&["top-up", user.as_str(), &self.idempotency_key])
    }

    /// Returns a fingerprint of the request that does not depend on the notation of its amount.
    pub fn fingerprint(&self) -> String {
        derive(&["topUpWallet", &self.amount.normalize().to_string(), &self.currency.to_string()]).to_string()
    }
}

impl CreateCreditNote {
    /// Returns a fingerprint of the request that does not depend on the notation of its amounts.
    pub fn fingerprint(&self) -> String {
        let amount = |line: &CreditLine| line.net_amount.map_or_else(String::new, |net| net.normalize().to_string());
        let line = |line: &CreditLine| format!("{}:{}", line.line, amount(line));
        let lines = self.lines.as_ref().map(|lines| lines.iter().map(line).collect::<Vec<_>>().join(" "));
        derive(&["createCreditNote", &self.reason, &lines.unwrap_or_else(|| "all".to_owned())]).to_string()
    }
}
