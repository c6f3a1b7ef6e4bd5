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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceRef {
    pub invoice_id: InvoiceId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListInvoices {
    #[serde(default)]
    user_id: Option<UserId>,
    #[serde(default)]
    status: Option<InvoiceStatus>,
    #[serde(flatten)]
    pub page: PageArguments,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletRef {
    #[serde(default)]
    pub user_id: Option<UserId>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopUpWallet {
    #[serde(default)]
    pub user_id: Option<UserId>,
    #[schemars(schema_with = "decimal_schema")]
    pub amount: Decimal,
    pub currency: Currency,
    /// The same key by the same user is the same top-up.
    #[schemars(length(min = 1, max = 255))]
    idempotency_key: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldFunds {
    pub user_id: UserId,
    session_id: SessionId,
    /// Of the station's tariff.
    currency: Currency,
    /// The most that the session may cost; without it all that is available is held.
    #[serde(default)]
    #[schemars(schema_with = "optional_decimal_schema")]
    max_cost: Option<Decimal>,
    /// Which attempt at starting the session asks, where repetitions of a request may run at the same time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    attempt: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFunds {
    pub user_id: UserId,
    pub session_id: SessionId,
    /// The attempt that gives up; without it all attempts at starting the session do.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub attempt: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListLedger {
    #[serde(default)]
    pub user_id: Option<UserId>,
    #[serde(flatten)]
    pub page: PageArguments,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateCreditNote {
    pub invoice_id: InvoiceId,
    /// Why, without personal data.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
    /// What is credited; everything that is left unless it is said.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    pub lines: Option<Vec<CreditLine>>,
    /// The same key on the same invoice is the same credit note.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    pub idempotency_key: Option<String>,
}

impl ListInvoices {
    /// The index that serves the list. Users see their own invoices alone.
    pub fn filter(&self, actor: &Actor) -> Result<InvoiceFilter, DomainError> {
        match (&self.user_id, self.status) {
            (Some(_), _) => actor.on_behalf_of(self.user_id.as_ref()).map(InvoiceFilter::User),
            (None, Some(status)) if actor.role.is_staff() => Ok(InvoiceFilter::Status(status)),
            (None, None) if actor.role.is_staff() => {
                Err(DomainError::invalid("userId", "one of userId and status is required"))
            }
            (None, _) => Ok(InvoiceFilter::User(actor.user_id.clone())),
        }
    }

    /// What the index does not filter.
    pub fn keeps(&self, status: InvoiceStatus) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
    }
}

impl HoldFunds {
    /// The request as the rules take it.
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
    /// Into whose wallet `actor` pays. Money enters by a member of staff: there is no payment provider that would
    /// confirm a user's own payment.
    pub fn user(&self, actor: &Actor) -> Result<UserId, DomainError> {
        if !actor.role.is_staff() {
            let message = "top-ups are for roles TECH_SUPPORT, ADMIN and SYSTEM: users pay in at the cash desk";
            return Err(DomainError::Forbidden(message.to_owned()));
        }
        actor.on_behalf_of(self.user_id.as_ref())
    }

    /// The top-up that the user's idempotency key stands for.
    pub fn id(&self, user: &UserId) -> Uuid {
        derive(&["top-up", user.as_str(), &self.idempotency_key])
    }

    /// The same for the same request, however its amount is written.
    pub fn fingerprint(&self) -> String {
        derive(&["topUpWallet", &self.amount.normalize().to_string(), &self.currency.to_string()]).to_string()
    }
}

impl CreateCreditNote {
    /// The same for the same request, however its amounts are written.
    pub fn fingerprint(&self) -> String {
        let amount = |line: &CreditLine| line.net_amount.map_or_else(String::new, |net| net.normalize().to_string());
        let line = |line: &CreditLine| format!("{}:{}", line.line, amount(line));
        let lines = self.lines.as_ref().map(|lines| lines.iter().map(line).collect::<Vec<_>>().join(" "));
        derive(&["createCreditNote", &self.reason, &lines.unwrap_or_else(|| "all".to_owned())]).to_string()
    }
}
