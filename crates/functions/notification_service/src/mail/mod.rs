//! E-mails to users, sent by Amazon SES.
//!
//! [`Letter`] decides which events are mailed, `texts` has the texts in each language, and `format` formats amounts and
//! times for the language. Only this module knows the address and the name of a user, and it passes them only to SES.
//! It does not log the message of an error of SES, because the message may contain the address.

mod format;
mod letter;
mod reader;
mod texts;

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::operation::RequestId;
use aws_sdk_sesv2::operation::send_email::SendEmailError;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message};
use domain::id::UserId;
use lambda_kit::Failure;
use store::UserStore;

pub use letter::Letter;
use reader::Reader;

/// The charset of all mails.
const CHARSET: &str = "UTF-8";

/// The sender of mails, and the users to whom they go.
#[derive(Clone, Debug)]
pub struct Mails {
    client: Client,
    sender: String,
    configuration_set: String,
    users: UserStore,
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// SES has accepted the mail.
    Sent,
    /// The user cannot get mails: the user has no row, or no confirmed address.
    NoReader,
    /// SES refuses the mail for good, e.g. because of the address. This is the error code of SES.
    Refused(String),
}

/// An error of SES without its message, which may contain the address of a user.
#[derive(Debug, thiserror::Error)]
#[error("SES did not take a mail: {0}")]
struct NotTaken(String);

impl NotTaken {
    fn new(error: &SdkError<SendEmailError>) -> Self {
        let known = [("code", error.code()), ("request id", error.request_id())].into_iter();
        let known: Vec<String> = known.filter_map(|(name, value)| Some(format!(", {name} {}", value?))).collect();
        Self(format!("{error}{}", known.concat()))
    }
}

impl Mails {
    /// Creates the sender of mails. `sender` is an address that SES has verified.
    #[must_use]
    pub fn new(client: Client, sender: String, configuration_set: String, users: UserStore) -> Self {
        Self { client, sender, configuration_set, users }
    }

    /// Mails a letter to a user, in the language of the user.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the user cannot be read, or when SES does not take the
    /// mail and another attempt may succeed.
    pub(crate) async fn send(&self, user: &UserId, letter: &Letter) -> Result<Outcome, Failure> {
        let Some(reader) = self.users.load(user).await?.and_then(Reader::of) else { return Ok(Outcome::NoReader) };
        let mail = letter.write(&reader);
        let body = Body::builder().text(content(mail.text)?).html(content(mail.html)?).build();
        let message = Message::builder().subject(content(mail.subject)?).body(body).build();
        let sent = self
            .client
            .send_email()
            .from_email_address(&self.sender)
            .destination(Destination::builder().to_addresses(reader.address).build())
            .content(EmailContent::builder().simple(message).build())
            .configuration_set_name(&self.configuration_set)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(Outcome::Sent),
            Err(error) => refusal(&error),
        }
    }
}

/// Returns the outcome of a mail that SES refuses for good.
///
/// # Errors
/// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when another attempt may succeed: SES is busy, cannot be
/// reached, or must first be set up or resumed by the operators.
fn refusal(error: &SdkError<SendEmailError>) -> Result<Outcome, Failure> {
    match error.as_service_error() {
        Some(SendEmailError::MessageRejected(_) | SendEmailError::BadRequestException(_)) => {
            Ok(Outcome::Refused(error.code().unwrap_or("MessageRejected").to_owned()))
        }
        _ => Err(Failure::unavailable(NotTaken::new(error))),
    }
}

fn content(text: String) -> Result<Content, Failure> {
    Content::builder().data(text).charset(CHARSET).build().map_err(Failure::internal)
}

#[cfg(test)]
mod tests {
    use aws_sdk_sesv2::config::http::HttpResponse;
    use aws_sdk_sesv2::error::ErrorMetadata;
    use domain::error::Chain;

    use super::*;

    #[test]
    fn an_error_of_ses_is_logged_without_its_message() {
        let metadata = ErrorMetadata::builder().code("AccessDenied").message("to ada@example.org").build();
        let answer = HttpResponse::new(403_u16.try_into().unwrap(), "the body".into());
        let refused = SdkError::service_error(SendEmailError::generic(metadata), answer);
        let failure = refusal(&refused).unwrap_err();
        let text = "SES did not take a mail: service error, code AccessDenied";
        assert_eq!(failure.cause().as_deref(), Some(text));
        assert!(!format!("{failure:?}").contains("ada@example.org"), "{failure:?}");
        let late: SdkError<SendEmailError> = SdkError::timeout_error("4 s are over");
        let text = "SES did not take a mail: request has timed out";
        assert_eq!(Chain(&NotTaken::new(&late)).to_string(), text);
    }
}
