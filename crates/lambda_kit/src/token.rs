//! The claims of an access token, as API Gateway and AppSync pass them on after they have verified the token.

use domain::actor::{Actor, Role};
use domain::id::UserId;

use crate::Failure;

/// The claim `token_use` of an access token.
pub(crate) const ACCESS: &str = "access";

/// Returns the failure for a token that is no access token, such as an ID token.
pub(crate) fn wrong_kind() -> Failure {
    Failure::Forbidden("the API takes access tokens, and this is another kind of token".to_owned())
}

/// Builds the actor from the claim `sub` and the groups of a token.
pub(crate) fn actor<'a>(sub: Option<&str>, groups: impl Iterator<Item = &'a str>) -> Result<Actor, Failure> {
    let sub = sub.ok_or_else(|| Failure::invalid("authorization", "the token has no sub"))?;
    Ok(Actor { user_id: UserId::new(sub)?, role: role(groups) })
}

/// Returns the highest role that the groups grant. Their names are compared as a whole.
fn role<'a>(groups: impl Iterator<Item = &'a str>) -> Role {
    let mut role = Role::User;
    for group in groups {
        match group {
            "ADMIN" => return Role::Admin,
            "TECH_SUPPORT" => role = Role::TechSupport,
            _ => {}
        }
    }
    role
}
