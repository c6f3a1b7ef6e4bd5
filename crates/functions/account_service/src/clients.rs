//! Machine clients: users that stand for programs.

use domain::accounts::{Client, Language, NewUser, User, UserStatus};
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::id::ClientId;
use lambda_kit::{Answer, Context, Failure, Request, retry_while_stale};
use store::Page;
use uuid::Uuid;

use crate::AccountService;
use crate::commands::{ClientRef, CreateClient, ListClients};
use crate::identity::Person;
use crate::secret::{EmailAddress, Password};
use crate::view::ClientView;

impl AccountService {
    /// Creates a machine client: the user of the user pool first, then its group, and the row with its scopes last.
    ///
    /// If a request crashes in between, a user remains whose secret nobody has, and `token_scopes` refuses its tokens.
    pub(crate) async fn create_client(&self, command: CreateClient, request: &Request) -> Result<Answer, Failure> {
        let actor = self.administrator_in_person(request).await?;
        let (scopes, role) = command.scopes_and_role()?;
        let id: ClientId = Uuid::now_v7().into();
        let (address, secret) = (EmailAddress::of_client(&id), Password::random());
        let user_id = self.pool.create(&address, None, &secret).await?;
        if role != Role::User
            && let Some(person) = self.pool.person(&user_id).await?
        {
            self.pool.set_role(&person, role).await?;
        }
        let new = NewUser {
            id: user_id,
            email: None,
            name: None,
            role,
            language: Language::default(),
            confirmed: true,
            client: Some(Client { id: id.clone(), name: command.name, scopes }),
        };
        let user = User::register(new, request.context.now);
        self.users.insert(&user, None, &request.context.event_context()).await?;
        let by = actor.user_id.as_str();
        tracing::info!(client.id = id.as_str(), actor.id = by, "a machine client was created");
        let view = ClientView::new(&user).ok_or_else(|| Failure::internal("a client without a client"))?;
        Answer::created(format!("/clients/{id}"), view.with_secret(&secret))
    }

    pub(crate) async fn list_clients(&self, command: ListClients, request: &Request) -> Result<Answer, Failure> {
        self.administrator(request).await?;
        let page = self.users.clients(&command.page.into()).await?;
        let items = page.items.iter().filter_map(ClientView::new).collect();
        Answer::page(Page { items, next_token: page.next_token }, |client| client)
    }

    /// Deletes a machine client: the row first, so that `token_scopes` refuses tokens, and the user of the user pool
    /// last. If the request crashes in between, a repetition completes it.
    pub(crate) async fn revoke_client(&self, command: ClientRef, request: &Request) -> Result<Answer, Failure> {
        let actor = self.administrator(request).await?;
        let unknown = || DomainError::not_found("client", &command.client_id);
        let address = EmailAddress::of_client(&command.client_id);
        let person = self.pool.person_with(&address).await?.ok_or_else(unknown)?;
        retry_while_stale(|| self.erase_client(&person, &actor, &request.context)).await?;
        self.pool.delete(&person).await?;
        let (id, by) = (command.client_id.as_str(), actor.user_id.as_str());
        tracing::info!(client.id = id, actor.id = by, "a machine client was revoked");
        Answer::ok(command)
    }

    async fn erase_client(&self, person: &Person, actor: &Actor, context: &Context) -> Result<(), Failure> {
        // Without a row, the request that created the client died.
        let Some(mut user) = self.users.load(&person.user_id).await? else { return Ok(()) };
        if user.status == UserStatus::Deleted {
            return Ok(());
        }
        user.start_deletion(actor)?;
        self.users.save(&user, Vec::new(), &context.event_context()).await?;
        self.erase(user, context).await?;
        Ok(())
    }
}
