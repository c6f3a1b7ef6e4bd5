use domain::accounts::{Language, User, UserStatus};

/// A user who can get mails.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The e-mail address.
    pub address: String,
    /// The name, if the user has given one.
    pub name: Option<String>,
    /// The language of mails.
    pub language: Language,
}

impl Reader {
    /// Returns a user as a reader. Returns `None` for a user who has no address, e.g. a machine client, or whose
    /// address is not confirmed and may belong to somebody else.
    ///
    /// A user who is blocked still gets mails, because invoices have to be paid all the same.
    pub fn of(user: User) -> Option<Self> {
        match user.status {
            UserStatus::Active | UserStatus::Blocked | UserStatus::Deleting => {}
            UserStatus::Unconfirmed | UserStatus::Deleted => return None,
        }
        Some(Self { address: user.email?, name: user.name, language: user.language })
    }
}
