//! Sign-up, and the confirmation of addresses.

use domain::accounts::{Language, NewUser, NewVehicle, User, UserStatus, Vehicle};
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::{Answer, Context, Failure, Request, count_failure, retry_while_stale};
use store::StoreError;
use uuid::Uuid;

use crate::AccountService;
use crate::commands::{AddressOf, Confirm, CreateCustomer, Register};
use crate::healing::stranger;
use crate::identity::Refusal;
use crate::secret::{EmailAddress, Password};
use crate::view::{AccountView, ConfirmedView, MailedView, RegisteredView};

impl AccountService {
    pub(crate) async fn register(&self, command: Register, request: &Request) -> Result<Answer, Failure> {
        let context = &request.context;
        let email = address_of_a_person(&command.email)?;
        command.password.check_choice("password")?;
        let vehicle = command.vehicle.map(new_vehicle).transpose()?;
        self.number_is_free(&email, vehicle.as_ref()).await?;
        let mut signed_up = self.pool.sign_up(&email, &command.name, &command.password).await;
        if matches!(signed_up, Err(Refusal::AddressTaken)) && self.heal_address(&email, context).await? {
            signed_up = self.pool.sign_up(&email, &command.name, &command.password).await;
        }
        let user_id = match signed_up {
            Ok(user_id) => user_id,
            Err(refusal) => self.signed_up_without_mail(refusal, &email).await?,
        };
        self.claim(&email, &user_id, context).await?;
        if self.rules.auto_confirm {
            self.pool.accept(&email).await?;
        }
        let new = NewUser {
            id: user_id,
            email: Some(email.expose().to_owned()),
            name: Some(command.name.expose().to_owned()),
            role: Role::User,
            language: command.language.unwrap_or_default(),
            confirmed: self.rules.auto_confirm,
            client: None,
        };
        let user = self.write(&User::register(new, context.now), vehicle.as_ref(), context).await?;
        let view = RegisteredView {
            user_id: user.id,
            email: email.expose().to_owned(),
            name: command.name.expose().to_owned(),
            status: user.status,
        };
        Answer::created("/account".to_owned(), view)
    }

    pub(crate) async fn create_customer(&self, command: CreateCustomer, request: &Request) -> Result<Answer, Failure> {
        self.staff(request).await?;
        let context = &request.context;
        let email = address_of_a_person(&command.email)?;
        let vehicle = command.vehicle.map(new_vehicle).transpose()?;
        self.number_is_free(&email, vehicle.as_ref()).await?;
        // With a password that nobody knows, the customer can set one by forgotPassword. With a temporary one, Cognito
        // would refuse that.
        let password = Password::random();
        let create = || self.pool.create(&email, Some(&command.name), &password);
        let mut created = create().await;
        if matches!(created, Err(Refusal::AddressTaken)) && self.heal_address(&email, context).await? {
            created = create().await;
        }
        let user_id = created?;
        let new = NewUser {
            id: user_id,
            email: Some(email.expose().to_owned()),
            name: Some(command.name.expose().to_owned()),
            role: Role::User,
            language: command.language.unwrap_or_default(),
            // The staff has checked the address, and the user pool has it as verified.
            confirmed: true,
            client: None,
        };
        let user = self.write(&User::register(new, context.now), vehicle.as_ref(), context).await?;
        Answer::created(format!("/customers/{}", user.id), AccountView::for_staff(&user))
    }

    pub(crate) async fn confirm(&self, command: Confirm, request: &Request) -> Result<Answer, Failure> {
        let email = address_of_a_person(&command.email)?;
        let confirmed = self.pool.confirm(&email, &command.code).await;
        confirmed.map_err(|refusal| match refusal {
            Refusal::TooManyRequests => Failure::from(refusal),
            refusal if refusal.is_ours() => refusal.into(),
            // Whether there is such an account is not said: the user pool answers a confirmed address in its own way
            // whatever the code is. Nothing more is done for it either, because the answer would take longer. If an
            // earlier request died before it wrote the row, the next sign-in does.
            _ => Refusal::WrongCode.into(),
        })?;
        if let Some(person) = self.pool.person_with(&email).await? {
            self.confirmed(&person.user_id, &request.context).await?;
        }
        Answer::ok(ConfirmedView { email: email.expose().to_owned(), status: UserStatus::Active })
    }

    pub(crate) async fn resend_code(&self, command: AddressOf, _: &Request) -> Result<Answer, Failure> {
        let email = address_of_a_person(&command.email)?;
        said_of_nobody(self.pool.resend_code(&email).await)?;
        let message = "If there is an account that waits for its code, the code is on its way.";
        Answer::ok(MailedView { message: message.to_owned() })
    }

    /// Returns the user of a sign-up for which the user pool mailed no code, e.g. because today's mails are used up.
    /// Cognito has created the user all the same, and mails another code on request. Passes other refusals on.
    ///
    /// A user who has a row signed up earlier.
    async fn signed_up_without_mail(&self, refusal: Refusal, email: &EmailAddress) -> Result<UserId, Failure> {
        if !matches!(refusal, Refusal::TooManyAttempts | Refusal::NotMailed(_)) {
            return Err(refusal.into());
        }
        let person = self.pool.person_with(email).await?.filter(|person| person.is_unconfirmed);
        if let Some(person) = person
            && self.users.load(&person.user_id).await?.is_none()
        {
            log_unmailed(refusal);
            return Ok(person.user_id);
        }
        Err(refusal.into())
    }

    /// Refuses a registration number that is taken, before the user pool creates a user and mails a code.
    ///
    /// A refused sign-up leaves the address free. If Cognito mailed first, anybody could have a person mailed again and
    /// again. A known address is refused as such: with it, nobody learns whether a number is taken.
    async fn number_is_free(&self, email: &EmailAddress, vehicle: Option<&Vehicle>) -> Result<(), Failure> {
        let Some(number) = vehicle.and_then(|vehicle| vehicle.registration_number.as_ref()) else { return Ok(()) };
        if self.pool.person_with(email).await?.is_some() {
            return Ok(());
        }
        match self.users.by_registration_number(number).await? {
            Some(_) => Err(number.taken().into()),
            None => Ok(()),
        }
    }

    /// Makes sure that the address belongs to this user. If two sign-ups with one address pass each other, the one to
    /// which the user pool gives the address stays.
    async fn claim(&self, email: &EmailAddress, user: &UserId, context: &Context) -> Result<(), Failure> {
        match self.pool.person_with(email).await? {
            Some(owner) if owner.user_id != *user => {
                self.withdraw(user, context).await?;
                Err(Refusal::AddressTaken.into())
            }
            _ => Ok(()),
        }
    }

    /// Writes the row of a new user, with the vehicle. If the registration number has been taken in the meantime, no
    /// account is left.
    async fn write(&self, user: &User, vehicle: Option<&Vehicle>, context: &Context) -> Result<User, Failure> {
        let events = context.event_context();
        match self.users.insert(user, vehicle, &events).await {
            Ok(()) => return Ok(user.clone()),
            // Another request has healed this user in the meantime.
            Err(error) if error.is_stale() => {}
            Err(error) => return Err(self.given_up(&user.id, error, context).await),
        }
        self.row(&user.id, context).await?;
        if let Some(vehicle) = vehicle
            && let Err(error) = self.users.add_vehicle(&user.id, vehicle).await
        {
            return Err(self.given_up(&user.id, error, context).await);
        }
        let language = (user.language != Language::default()).then_some(user.language);
        self.confirmed_as(user, language, context).await
    }

    /// Writes the name, the language and the status of the sign-up into the row that another request wrote for this
    /// user.
    async fn confirmed_as(&self, user: &User, language: Option<Language>, context: &Context) -> Result<User, Failure> {
        self.change(&user.id, context, |row| {
            if row.status == UserStatus::Unconfirmed && user.status == UserStatus::Active {
                row.confirm()?;
            }
            row.update(user.name.clone(), language)?;
            Ok(Vec::new())
        })
        .await
    }

    /// Returns the failure of a sign-up that was not written. If a rule refused it, no account is left.
    async fn given_up(&self, user: &UserId, error: StoreError, context: &Context) -> Failure {
        if matches!(error, StoreError::Domain(_))
            && let Err(failure) = self.withdraw(user, context).await
        {
            return failure;
        }
        error.into()
    }

    /// Deletes the account of a sign-up that cannot be completed: the row first, and the user of the user pool last.
    async fn withdraw(&self, user: &UserId, context: &Context) -> Result<(), Failure> {
        retry_while_stale(|| self.bury(user, context)).await?;
        self.forget_identity(user).await?;
        Ok(())
    }

    /// Writes the tombstone of a user who may have no row yet. Otherwise another request that heals the user in between
    /// would leave a row with the address and the name, which nobody could delete.
    async fn bury(&self, id: &UserId, context: &Context) -> Result<(), Failure> {
        let events = context.event_context();
        let mut user = match self.users.load(id).await? {
            Some(user) if user.status == UserStatus::Deleted => return Ok(()),
            Some(user) => user,
            None => {
                let user = stranger(id);
                self.users.insert(&user, None, &events).await?;
                user
            }
        };
        user.start_deletion(&Actor::system())?;
        self.users.save(&user, Vec::new(), &events).await?;
        self.erase(user, context).await?;
        Ok(())
    }
}

fn new_vehicle(new: NewVehicle) -> Result<Vehicle, DomainError> {
    Vehicle::new(Uuid::now_v7().into(), new)
}

/// Checks that an address is not one of a machine client, and returns it as it is stored.
pub fn address_of_a_person(email: &EmailAddress) -> Result<EmailAddress, DomainError> {
    if email.is_of_a_client() {
        return Err(DomainError::invalid("email", "must be the address of a person"));
    }
    Ok(email.normalised())
}

/// Passes on only what has nothing to do with the account: the answer must not say whether there is one.
///
/// A mail that cannot be sent has: Cognito sends none to an unknown address. The log says it.
pub fn said_of_nobody(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(refusal @ (Refusal::NotMailed(_) | Refusal::TooManyAttempts)) => {
            log_unmailed(refusal);
            Ok(())
        }
        Err(refusal) if refusal.is_ours() || matches!(refusal, Refusal::TooManyRequests) => Err(refusal),
        _ => Ok(()),
    }
}

/// Logs that the user pool mailed no code. Without an address of SES, Cognito sends few mails a day.
fn log_unmailed(refusal: Refusal) {
    let failure = Failure::from(refusal);
    if failure.is_ours() {
        count_failure(&failure);
        tracing::error!(cause = failure.cause(), "a code was not mailed");
    } else {
        tracing::warn!("a code was not mailed: there were too many for one address, or today's mails are used up");
    }
}
