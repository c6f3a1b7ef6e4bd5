//! The claims of an access token. The token comes directly from the user pool, so its signature is not checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::accounts::{RESOURCE_SERVER, Scope};
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::Failure;
use serde::Deserialize;

/// The claims of an access token.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// The id of the user.
    #[serde(rename = "sub")]
    pub user_id: UserId,
    #[serde(default)]
    scope: String,
}

impl Claims {
    /// Reads the claims of a token.
    ///
    /// # Errors
    /// [`Code::Internal`](lambda_kit::Code::Internal) when it is no token of Cognito.
    pub fn of(token: &str) -> Result<Self, Failure> {
        let payload = token.split('.').nth(1).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| unreadable())?;
        serde_json::from_slice(&payload).map_err(|_| unreadable())
    }

    /// Returns the scopes of this API that the token has, as the token writes them.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let of_this_api = |scope: &&str| scope.strip_prefix(RESOURCE_SERVER).is_some_and(|rest| rest.starts_with('/'));
        self.scope.split_whitespace().filter(of_this_api)
    }

    /// Checks that the token has the scopes that were asked for.
    ///
    /// # Errors
    /// [`DomainError::Validation`] of the argument `scope` when one is missing.
    pub fn must_have(&self, asked: &[Scope]) -> Result<(), DomainError> {
        let has = |scope: &Scope| self.scopes().any(|granted| granted == scope.in_token());
        match asked.iter().find(|scope| !has(scope)) {
            None => Ok(()),
            Some(missing) => Err(DomainError::invalid("scope", format!("{missing} is more than this user may do"))),
        }
    }
}

/// Parses the argument `scope` of RFC 6749. Both spellings of a scope are accepted: `evoke/runs:read` and `runs:read`.
///
/// # Errors
/// [`DomainError::Validation`] when there is no such scope.
pub fn scopes(text: Option<&str>) -> Result<Vec<Scope>, DomainError> {
    let prefix = format!("{RESOURCE_SERVER}/");
    let parse = |scope: &str| scope.strip_prefix(prefix.as_str()).unwrap_or(scope).parse();
    text.unwrap_or_default().split_whitespace().map(parse).collect()
}

fn unreadable() -> Failure {
    Failure::internal("the user pool issued a token that cannot be read")
}

#[cfg(test)]
mod tests {
    use domain::accounts::Area;
    use serde_json::json;

    use super::*;

    fn claims(scope: &str) -> Claims {
        let payload = URL_SAFE_NO_PAD.encode(json!({ "sub": "u-1", "scope": scope, "exp": 1 }).to_string());
        Claims::of(&format!("header.{payload}.signature")).unwrap()
    }

    #[test]
    fn a_token_tells_its_user_and_the_scopes_of_this_api() {
        let claims = claims("aws.cognito.signin.user.admin evoke/stations:read evoked/stations:write evoke/runs:write");
        assert_eq!(claims.user_id.as_str(), "u-1");
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["evoke/stations:read", "evoke/runs:write"]);
        for token in ["", "a", "a.b.c", "a.e30.c"] {
            assert!(Claims::of(token).unwrap_err().is_ours(), "{token}");
        }
    }

    #[test]
    fn a_scope_that_was_asked_for_must_be_in_the_token() {
        let claims = claims("evoke/stations:read");
        assert_eq!(claims.must_have(&[]), Ok(()));
        assert_eq!(claims.must_have(&[Scope::read(Area::Stations)]), Ok(()));
        let missing = claims.must_have(&[Scope::read(Area::Stations), Scope::write(Area::Stations)]);
        assert_eq!(missing.unwrap_err().to_string(), "scope: stations:write is more than this user may do");
    }

    #[test]
    fn scopes_are_taken_in_both_spellings() {
        let both = [Scope::read(Area::Stations), Scope::write(Area::Runs)];
        assert_eq!(scopes(Some(" stations:read  evoke/runs:write ")).unwrap(), both);
        assert_eq!(scopes(None).unwrap(), []);
        for unknown in ["stations", "openid", "evoke/", "other/stations:read"] {
            assert!(scopes(Some(unknown)).is_err(), "{unknown}");
        }
    }
}
