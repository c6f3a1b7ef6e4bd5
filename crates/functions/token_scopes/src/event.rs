//! The event that Cognito sends before it issues tokens (pre-token-generation, V2).
//!
//! Only the fields that are used have types, because Cognito's documentation has several forms of the others. The whole
//! event is returned with the answer.

use std::collections::BTreeMap;

use domain::actor::Role;
use serde::Deserialize;
use serde_json::{Value, json};

/// The groups of the user pool that give a role, from the highest role to the lowest.
const GROUPS: [(&str, Role); 3] = [("ADMIN", Role::Admin), ("TECH_SUPPORT", Role::TechSupport), ("USER", Role::User)];
/// With this scope, a user could bypass `account_service`, and delete the user of the user pool or change its address.
const SELF_SERVICE: &str = "aws.cognito.signin.user.admin";

/// The event, as far as it is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolEvent {
    /// Why tokens are issued, e.g. `TokenGeneration_Authentication`.
    pub trigger_source: String,
    /// The name of the user in the pool: the `sub`, unless an identity provider signed the user in.
    user_name: String,
    #[serde(default)]
    request: PoolRequest,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolRequest {
    #[serde(default)]
    user_attributes: BTreeMap<String, Value>,
    #[serde(default)]
    group_configuration: GroupConfiguration,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupConfiguration {
    #[serde(default)]
    groups_to_override: Option<Vec<String>>,
}

impl PoolEvent {
    /// Returns the id of the user: the `sub`.
    pub fn sub(&self) -> &str {
        self.attribute("sub").unwrap_or(&self.user_name)
    }

    /// Returns an attribute of the user, unless it is empty.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.request.user_attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the highest role that the user's groups give.
    ///
    /// `None` means that the event does not say it: MiniStack sends neither attributes nor groups when the hosted pages
    /// refresh tokens. Otherwise a user without a group is a USER.
    pub fn role(&self) -> Option<Role> {
        if self.request.user_attributes.is_empty() {
            return None;
        }
        let groups = self.request.group_configuration.groups_to_override.as_deref().unwrap_or_default();
        let has = |name: &str| groups.iter().any(|group| group == name);
        Some(GROUPS.into_iter().find(|(group, _)| has(group)).map_or(Role::User, |(_, role)| role))
    }
}

/// Returns the overrides for the tokens: the scopes, and the group of `role`.
///
/// `role` is `None` if the groups of the user give the right role. Then the answer has no groups, because an empty list
/// would remove all groups from the tokens.
pub fn overrides(scopes: &[String], role: Option<Role>) -> Value {
    let mut details = json!({
        "accessTokenGeneration": { "scopesToAdd": scopes, "scopesToSuppress": [SELF_SERVICE] }
    });
    let group = role.and_then(|role| GROUPS.into_iter().find(|(_, of_group)| *of_group == role));
    if let Some((group, _)) = group {
        details["groupOverrideDetails"] = json!({ "groupsToOverride": [group] });
    }
    json!({ "claimsAndScopeOverrideDetails": details })
}
