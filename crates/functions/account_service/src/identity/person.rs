//! The users of the user pool: their data, their passwords and their groups.

use aws_sdk_cognitoidentityprovider::types::{AttributeType, MessageActionType, UserStatusType, UserType};
use domain::accounts::tidied_name;
use domain::actor::Role;
use domain::id::UserId;
use uuid::Uuid;

use super::{Refusal, UserPool, attribute, rejected, user_id};
use crate::secret::{EmailAddress, Password, PersonName};

/// The groups of the user pool that give a role, from the highest role to the lowest.
const GROUPS: [(&str, Role); 3] = [("ADMIN", Role::Admin), ("TECH_SUPPORT", Role::TechSupport), ("USER", Role::User)];

/// A user as the user pool knows it.
#[derive(Clone, Debug)]
pub struct Person {
    /// The id of the user: Cognito's `sub`.
    pub user_id: UserId,
    /// The name of the user in the pool: the `sub`, or another name if an identity provider signed the user in.
    username: String,
    /// The address, in lower case.
    pub email: Option<EmailAddress>,
    /// The name of the person.
    pub name: Option<PersonName>,
    /// Whether the user has not confirmed the address yet.
    pub is_unconfirmed: bool,
    /// Whether the user has a password that must be replaced at the first sign-in.
    pub has_temporary_password: bool,
}

impl Person {
    /// Returns whether the user stands for a program.
    pub fn is_a_client(&self) -> bool {
        self.email.as_ref().is_some_and(EmailAddress::is_of_a_client)
    }

    /// Returns the name under which the user signs in.
    pub fn username(&self) -> &str {
        &self.username
    }
}

impl UserPool {
    /// Returns the user with this address.
    pub(crate) async fn person_with(&self, email: &EmailAddress) -> Result<Option<Person>, Refusal> {
        self.get(email.expose()).await
    }

    /// Returns the user with this id.
    pub(crate) async fn person(&self, user: &UserId) -> Result<Option<Person>, Refusal> {
        // Cognito finds a user of its own by the `sub`, and one of an identity provider only by a filter. It also finds
        // users by their addresses, which are no ids.
        if let Some(person) = self.get(user.as_str()).await?.filter(|person| person.user_id == *user) {
            return Ok(Some(person));
        }
        // Each `sub` is a UUID. Cognito answers few of these requests.
        if Uuid::try_parse(user.as_str()).is_err() {
            return Ok(None);
        }
        let list = self.client.list_users().user_pool_id(&self.pool).limit(1);
        let found = list.filter(format!("sub = \"{user}\"")).send().await.map_err(Refusal::from_sdk)?;
        let person = found.users.unwrap_or_default().into_iter().next().map(listed).transpose()?;
        // The local cloud answers a filter that it does not understand with any user.
        Ok(person.filter(|person| person.user_id == *user))
    }

    async fn get(&self, username: &str) -> Result<Option<Person>, Refusal> {
        let call = self.client.admin_get_user().user_pool_id(&self.pool).username(username);
        let found = match call.send().await.map_err(Refusal::from_sdk) {
            Ok(found) => found,
            Err(Refusal::UnknownUser) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        described(&found.username, found.user_attributes.as_deref().unwrap_or_default(), found.user_status.as_ref())
            .map(Some)
    }

    /// Creates a user whose address counts as verified and who has this password. Cognito mails nothing.
    pub(crate) async fn create(
        &self,
        email: &EmailAddress,
        name: Option<&PersonName>,
        password: &Password,
    ) -> Result<UserId, Refusal> {
        let call = self.client.admin_create_user().user_pool_id(&self.pool).username(email.expose());
        let call = call.message_action(MessageActionType::Suppress).temporary_password(password.expose());
        let call = call.user_attributes(attribute("email", email.expose())?);
        let mut call = call.user_attributes(attribute("email_verified", "true")?);
        if let Some(name) = name {
            call = call.user_attributes(attribute("name", name.expose())?);
        }
        let created = call.send().await.map_err(Refusal::from_sdk)?;
        let user = created.user.ok_or_else(|| rejected("a created user is missing in the answer"))?;
        let person = listed(user)?;
        self.set_password(&person, password).await?;
        Ok(person.user_id)
    }

    /// Sets the password of a user for good.
    pub(crate) async fn set_password(&self, person: &Person, password: &Password) -> Result<(), Refusal> {
        let call = self.client.admin_set_user_password().user_pool_id(&self.pool).username(&person.username);
        call.password(password.expose()).permanent(true).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Marks the address of a person as verified.
    pub(crate) async fn verify_address(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_update_user_attributes().user_pool_id(&self.pool).username(&person.username);
        call.user_attributes(attribute("email_verified", "true")?).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Changes the name of a person.
    pub(crate) async fn set_name(&self, person: &Person, name: &PersonName) -> Result<(), Refusal> {
        let call = self.client.admin_update_user_attributes().user_pool_id(&self.pool).username(&person.username);
        call.user_attributes(attribute("name", name.expose())?).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Returns the highest role that the groups of a user give.
    pub(crate) async fn role(&self, person: &Person) -> Result<Role, Refusal> {
        let call = self.client.admin_list_groups_for_user().user_pool_id(&self.pool).username(&person.username);
        let answer = call.send().await.map_err(Refusal::from_sdk)?;
        let has = |group: &str| answer.groups().iter().any(|found| found.group_name() == Some(group));
        Ok(GROUPS.into_iter().find(|(group, _)| has(group)).map_or(Role::User, |(_, role)| role))
    }

    /// Puts a user into the group of the role, and takes the user out of the groups of the other roles.
    ///
    /// The user is added to the new group first, so that the user is never without a group. Before that, `setRole` has
    /// marked the row, so `token_scopes` uses the role of the row.
    pub(crate) async fn set_role(&self, person: &Person, role: Role) -> Result<(), Refusal> {
        let (wanted, others): (Vec<_>, Vec<_>) = GROUPS.into_iter().partition(|(_, of_group)| *of_group == role);
        for (group, _) in wanted {
            let call = self.client.admin_add_user_to_group().user_pool_id(&self.pool).username(&person.username);
            call.group_name(group).send().await.map_err(Refusal::from_sdk)?;
        }
        for (group, _) in others {
            let call = self.client.admin_remove_user_from_group().user_pool_id(&self.pool).username(&person.username);
            call.group_name(group).send().await.map_err(Refusal::from_sdk)?;
        }
        Ok(())
    }

    /// Revokes all refresh tokens of a user. Succeeds if the user does not exist any more.
    pub(crate) async fn sign_out(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_user_global_sign_out().user_pool_id(&self.pool).username(&person.username);
        gone_is_fine(call.send().await.map(|_| ()).map_err(Refusal::from_sdk))
    }

    /// Deletes a user. Succeeds if the user does not exist any more.
    pub(crate) async fn delete(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_delete_user().user_pool_id(&self.pool).username(&person.username);
        gone_is_fine(call.send().await.map(|_| ()).map_err(Refusal::from_sdk))
    }
}

fn gone_is_fine(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(Refusal::UnknownUser) => Ok(()),
        result => result,
    }
}

fn listed(user: UserType) -> Result<Person, Refusal> {
    let username = user.username.unwrap_or_default();
    described(&username, user.attributes.as_deref().unwrap_or_default(), user.user_status.as_ref())
}

fn described(username: &str, attributes: &[AttributeType], status: Option<&UserStatusType>) -> Result<Person, Refusal> {
    let value = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute.name == name);
        found.and_then(|attribute| attribute.value.clone()).filter(|value| !value.is_empty())
    };
    let sub = value("sub").ok_or_else(|| rejected("a user has no sub"))?;
    Ok(Person {
        user_id: user_id(sub)?,
        username: username.to_owned(),
        email: value("email").map(|email| EmailAddress::from(email).normalised()),
        name: value("name").and_then(|name| tidied_name(&name)).map(PersonName::from),
        is_unconfirmed: status == Some(&UserStatusType::Unconfirmed),
        has_temporary_password: status == Some(&UserStatusType::ForceChangePassword),
    })
}
