use serde::{Deserialize, Serialize};

use super::Scope;
use crate::id::ClientId;

/// The domain of the e-mail addresses of machine clients. `.invalid` never exists (RFC 2606), so nobody can get mail
/// there, and nobody may register an address there.
pub const CLIENT_DOMAIN: &str = "clients.invalid";

/// A machine client: a user that stands for a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Id of the client, by which the program signs in.
    #[serde(rename = "clientId")]
    pub id: ClientId,
    /// Name of the client, for people.
    pub name: String,
    /// What the tokens of the client allow.
    pub scopes: Vec<Scope>,
}

impl ClientId {
    /// Returns the e-mail address under which the client is a user of the user pool.
    #[must_use]
    pub fn address(&self) -> String {
        format!("client-{self}@{CLIENT_DOMAIN}")
    }

    /// Returns the client that has this e-mail address, or `None` if it is not the address of a client.
    #[must_use]
    pub fn of_address(email: &str) -> Option<Self> {
        let id = email.strip_prefix("client-")?.strip_suffix(CLIENT_DOMAIN)?.strip_suffix('@')?;
        Self::new(id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::derive;

    #[test]
    fn the_address_of_a_client_names_it() {
        let id: ClientId = derive(&["client"]).into();
        assert_eq!(id.address(), format!("client-{id}@clients.invalid"));
        assert_eq!(ClientId::of_address(&id.address()), Some(id));
        for other in ["", "client-@clients.invalid", "client-1@example.com", "c-1@clients.invalid", "client-1"] {
            assert_eq!(ClientId::of_address(other), None, "{other}");
        }
    }
}
