use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{UserStatus, may_have_one_more};
use crate::Instant;
use crate::error::DomainError;
use crate::id::UserId;

/// The maximum number of charging tokens of a user.
pub const MAX_TOKENS: u32 = 50;
/// The maximum length of the id of a token, in characters (OCPI 2.2.1).
const MAX_LENGTH: usize = 36;

/// Id of a charging token: what an RFID card or a contract shows to a charger. It is case-insensitive, as in OCPI.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// Kind of a charging token (OCPI 2.2.1, `TokenType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenType {
    /// An RFID card.
    Rfid,
    /// A user of an app.
    AppUser,
    /// A user who is known for one session only.
    AdHocUser,
    /// Any other kind, such as a contract.
    Other,
}

/// A charging token of a user (OCPI Token).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Id of the token.
    #[serde(rename = "tokenId")]
    pub id: TokenId,
    /// Kind of the token.
    #[serde(rename = "type")]
    pub kind: TokenType,
    /// When the token expires. Without it the token does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Instant>,
}

impl TokenId {
    /// Creates the id of a token from its text.
    ///
    /// # Errors
    /// `Validation` unless the text is 1 to 36 printable ASCII characters and neither begins nor ends with a space.
    pub fn new(text: &str) -> Result<Self, DomainError> {
        Self::parse(text).map_err(|message| DomainError::invalid("tokenId", message))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let is_printable = text.chars().all(|c| matches!(c, ' '..='~')) && text.trim() == text;
        if is_printable && (1..=MAX_LENGTH).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("must be 1 to {MAX_LENGTH} printable ASCII characters, without a space at either end"))
    }

    /// Returns the id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id in upper case. All spellings of an id have the same upper case.
    #[must_use]
    pub fn normalised(&self) -> String {
        self.0.to_ascii_uppercase()
    }

    /// Returns the error for a token that is registered already. It says neither whose token it is, nor the id: the log
    /// has the messages of refused requests, and the id of a card suffices to charge with it.
    #[must_use]
    pub fn taken(&self) -> DomainError {
        DomainError::conflict("the token is registered already")
    }

    /// Returns the error for a token that the user does not have. It leaves the id out, as [`Self::taken`] does.
    #[must_use]
    pub fn unknown(&self) -> DomainError {
        DomainError::NotFound("there is no such token of this user".to_owned())
    }
}

impl PartialEq for TokenId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for TokenId {}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TokenId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl JsonSchema for TokenId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TokenId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!-~]([ -~]{0,34}[!-~])?$" })
    }
}

impl Token {
    /// Checks that a token may be added for `user`, who has this status and `count` tokens.
    ///
    /// # Errors
    /// `NotFound` if the user was deleted; `Conflict` if the user is being deleted or has [`MAX_TOKENS`] tokens.
    pub fn may_be_added(user: &UserId, status: UserStatus, count: u32) -> Result<(), DomainError> {
        may_have_one_more("token", (count, MAX_TOKENS), status, user)
    }

    /// Returns whether the token is valid at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ids_are_printable_and_case_insensitive() {
        let id = TokenId::new("04a1:Bc #9").unwrap();
        assert_eq!((id.as_str(), id.normalised().as_str()), ("04a1:Bc #9", "04A1:BC #9"));
        assert_eq!(id, TokenId::new("04A1:bC #9").unwrap());
        assert!(TokenId::new(&"x".repeat(36)).is_ok());
        for wrong in ["", " ", " a", "a ", &"x".repeat(37), "ä", "a\tb", "a\u{7f}", "a\nb"] {
            let refused = TokenId::new(wrong);
            assert!(matches!(refused, Err(DomainError::Validation(_))), "{wrong:?}: {refused:?}");
        }
    }

    #[test]
    fn the_messages_about_a_token_do_not_have_its_id() {
        let id = TokenId::new("04A2B3C4").unwrap();
        for error in [id.taken(), id.unknown()] {
            assert!(!error.to_string().contains(id.as_str()), "{error}");
        }
    }

    #[test]
    fn a_token_is_valid_until_its_last_instant() {
        let at = |second: i64| chrono::DateTime::from_timestamp(second, 0).unwrap_or_default();
        let token = |valid_until| Token { id: TokenId::new("a").unwrap(), kind: TokenType::Rfid, valid_until };
        assert!(token(None).is_valid(at(9)) && token(Some(at(10))).is_valid(at(9)));
        assert!(!token(Some(at(10))).is_valid(at(10)));
    }
}
