//! The account of the actor, and its export.

use domain::accounts::UserStatus;
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::{Answer, Context, Failure, RemoteFunction, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::AccountService;
use crate::commands::{ExportAccount, NoArguments, UpdateAccount};
use crate::healing::stranger;
use crate::staff::must_be_a_person;
use crate::view::{AccountView, ExportView, MoreView};

/// The number of sessions, of invoices and of ledger entries in one answer to an export.
const EXPORTED_AT_ONCE: u8 = 100;

/// A page of a list of another function.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemotePage {
    /// The items as the function answers them.
    pub items: Vec<Value>,
    /// The token of the next page.
    #[serde(default)]
    pub next_token: Option<String>,
}

/// What an export asks of a list.
struct Exported<'a> {
    user: &'a UserId,
    /// Whether the request names no list, and so asks for the first page of all.
    is_first: bool,
    token: Option<String>,
    context: &'a Context,
}

impl AccountService {
    pub(crate) async fn get_account(&self, _: NoArguments, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        // Whoever has a valid token is a user. Without a row, only the id of the user is known.
        let Some(user) = self.row(&actor.user_id, &request.context).await? else {
            return Answer::ok(AccountView::new(&stranger(&actor.user_id)));
        };
        if user.status == UserStatus::Deleted {
            return Err(DomainError::not_found("user", &actor.user_id).into());
        }
        Answer::ok(AccountView::new(&user))
    }

    pub(crate) async fn update_account(&self, command: UpdateAccount, request: &Request) -> Result<Answer, Failure> {
        let id = &request.actor()?.user_id;
        if command.name.is_none() && command.language.is_none() {
            return Err(Failure::invalid("name", "one of name and language is required"));
        }
        let name = command.name.as_ref().map(|name| name.expose().to_owned());
        let updated = self.change(id, &request.context, |user| {
            user.update(name.clone(), command.language)?;
            Ok(Vec::new())
        });
        let user = updated.await?;
        // The user pool also has the name, for the ID token. If the names differ, the one in the row is valid.
        if let Some(name) = &command.name
            && let Some(person) = self.pool.person(id).await?
        {
            self.pool.set_name(&person, name).await?;
        }
        Answer::ok(AccountView::new(&user))
    }

    pub(crate) async fn export_account(&self, command: ExportAccount, request: &Request) -> Result<Answer, Failure> {
        let context = &request.context;
        let id = &request.actor()?.user_id;
        let user = match self.row(id, context).await? {
            Some(user) if user.status == UserStatus::Deleted => return Err(DomainError::not_found("user", id).into()),
            Some(user) => user,
            None => stranger(id),
        };
        // An export has sessions and invoices, whatever the scopes of the client are.
        must_be_a_person(&user, &request.action)?;
        let ExportAccount { sessions_token, invoices_token, ledger_token } = command;
        let is_first = sessions_token.is_none() && invoices_token.is_none() && ledger_token.is_none();
        let exported = |token| Exported { user: id, is_first, token, context };
        let sessions = self.exported(&self.sessions, "listSessions", exported(sessions_token)).await?;
        let invoices = self.exported(&self.billing, "listInvoices", exported(invoices_token)).await?;
        let ledger = self.exported(&self.billing, "listLedger", exported(ledger_token)).await?;
        let more = MoreView {
            sessions_token: sessions.next_token,
            invoices_token: invoices.next_token,
            ledger_token: ledger.next_token,
        };
        let is_all = more.sessions_token.is_none() && more.invoices_token.is_none() && more.ledger_token.is_none();
        Answer::ok(ExportView {
            exported_at: context.now,
            profile: AccountView::for_staff(&user),
            vehicles: self.users.vehicles(id).await?,
            tokens: self.users.tokens(id).await?,
            sessions: sessions.items,
            invoices: invoices.items,
            ledger: ledger.items,
            more: (!is_all).then_some(more),
        })
    }

    /// Returns a page of a list for an export. A request for a next page reads only the lists that have more.
    async fn exported(
        &self,
        function: &RemoteFunction,
        action: &str,
        list: Exported<'_>,
    ) -> Result<RemotePage, Failure> {
        if list.is_first || list.token.is_some() {
            return self.page(function, action, (list.user, json!({})), list.token, list.context).await;
        }
        Ok(RemotePage { items: Vec::new(), next_token: None })
    }

    /// Returns a page of a list that another function has of a user. `filter` has further arguments.
    pub(crate) async fn page(
        &self,
        function: &RemoteFunction,
        action: &str,
        (user, filter): (&UserId, Value),
        token: Option<String>,
        context: &Context,
    ) -> Result<RemotePage, Failure> {
        let mut arguments = json!({ "userId": user, "limit": EXPORTED_AT_ONCE });
        if let (Some(arguments), Value::Object(filter)) = (arguments.as_object_mut(), filter) {
            arguments.extend(filter);
            arguments.extend(token.map(|token| ("nextToken".to_owned(), Value::String(token))));
        }
        let answer = function.command(action, arguments, &context.correlation_id).await?;
        serde_json::from_value(answer).map_err(Failure::internal)
    }
}
