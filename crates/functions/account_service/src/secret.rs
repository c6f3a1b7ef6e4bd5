//! Values that must not appear in a log: passwords, tokens, codes, names and e-mail addresses.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::accounts::{CLIENT_DOMAIN, normalised_email};
use domain::error::DomainError;
use domain::id::ClientId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Text without control characters, and with at least one character that is not white space.
const PRINTABLE: &str = "^[^\\x00-\\x1f\\x7f]*[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*$";
/// The longest password that Cognito takes, in characters.
const LONGEST_PASSWORD: u32 = 256;
/// The least length of a new password. The user pool has the same rules, and a test compares both.
pub const SHORTEST_PASSWORD: usize = 12;

macro_rules! hidden {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Returns the value, to be sent to the user pool.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

hidden!(
    /// A password.
    Password,
    { "type": "string", "minLength": 1, "maxLength": LONGEST_PASSWORD }
);
hidden!(
    /// A code that Cognito sent by e-mail.
    MailedCode,
    { "type": "string", "pattern": "^[0-9A-Za-z]{1,64}$" }
);
hidden!(
    /// A refresh token.
    RefreshToken,
    { "type": "string", "minLength": 1, "maxLength": 8192 }
);
hidden!(
    /// The name under which somebody signs in.
    Username,
    { "type": "string", "minLength": 1, "maxLength": 128 }
);
hidden!(
    /// The name of a person.
    PersonName,
    { "type": "string", "minLength": 1, "maxLength": 100, "pattern": PRINTABLE }
);
hidden!(
    /// An e-mail address.
    EmailAddress,
    { "type": "string", "format": "email", "minLength": 3, "maxLength": 128 }
);

impl Password {
    /// Generates the secret of a machine client, or a password that nobody learns: 32 random bytes as text.
    ///
    /// Repeats this until the text meets the rules of the user pool, which nearly every text does.
    pub fn random() -> Self {
        loop {
            let drawn = Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
            if drawn.is_strong() {
                return drawn;
            }
        }
    }

    /// Checks that a person may choose this password. `field` is the argument that has it.
    ///
    /// Call this before the user pool, so that a refusal does not depend on whether there is an account.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when the password is weaker than the user pool allows.
    pub fn check_choice(&self, field: &str) -> Result<(), DomainError> {
        if self.is_strong() {
            return Ok(());
        }
        Err(DomainError::invalid(field, Self::rules()))
    }

    /// Returns the rules for a new password.
    pub fn rules() -> String {
        format!(
            "must have at least {SHORTEST_PASSWORD} characters, among them a lower case letter, an upper case letter \
             and a digit, and no space at its ends"
        )
    }

    fn is_strong(&self) -> bool {
        let has = |kind: fn(&char) -> bool| self.0.chars().any(|c| kind(&c));
        self.0.chars().count() >= SHORTEST_PASSWORD
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_digit)
            && self.0.trim() == self.0
    }
}

impl EmailAddress {
    /// Returns the address of a machine client.
    pub fn of_client(client: &ClientId) -> Self {
        Self(client.address())
    }

    /// Returns the address as the table and the user pool have it.
    pub fn normalised(&self) -> Self {
        Self(normalised_email(&self.0))
    }

    /// Returns whether only machine clients have such an address.
    pub fn is_of_a_client(&self) -> bool {
        let domain = normalised_email(&self.0);
        domain.rsplit('@').next() == Some(CLIENT_DOMAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_none_of_the_values() {
        let password = Password::from("Correct-Horse-9".to_owned());
        let address = EmailAddress::from("Ada@Example.com".to_owned());
        let text = format!("{password:?} {address:?} {:?}", RefreshToken::from("abc.def".to_owned()));
        assert_eq!(text, "Password(hidden) EmailAddress(hidden) RefreshToken(hidden)");
    }

    #[test]
    fn a_chosen_password_has_the_length_and_the_characters_that_the_user_pool_asks_for() {
        let is_taken = |text: &str| Password::from(text.to_owned()).check_choice("password").is_ok();
        for strong in ["Correct-Horse-9", "aA1aA1aA1aA1", "with Space 12 Aa"] {
            assert!(is_taken(strong), "{strong}");
        }
        for weak in ["", "aA1aA1aA1aA", "correct-horse-9", "CORRECT-HORSE-9", "Correct-Horse-x", " Correct-Horse-9"] {
            assert!(!is_taken(weak), "{weak}");
        }
    }

    #[test]
    fn drawn_secrets_differ_and_meet_the_rules() {
        let drawn: Vec<Password> = (0..200).map(|_| Password::random()).collect();
        for (index, secret) in drawn.iter().enumerate() {
            assert!(secret.check_choice("secret").is_ok() && secret.expose().len() == 43);
            assert!(!drawn[..index].contains(secret));
        }
    }

    #[test]
    fn addresses_are_compared_in_lower_case_and_those_of_clients_are_known() {
        let address = |text: &str| EmailAddress::from(text.to_owned());
        assert_eq!(address(" Ada@Example.COM ").normalised(), address("ada@example.com"));
        assert!(address("client-1@Clients.Invalid").is_of_a_client());
        assert!(EmailAddress::of_client(&ClientId::new("1").unwrap()).is_of_a_client());
        assert!(!address("ada@clients.invalid.example.com").is_of_a_client());
    }
}
