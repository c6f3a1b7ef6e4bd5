//! Every command on a user in every status and by every role, registration numbers however they are written, and random
//! lives of users.

use chrono::TimeDelta;
use domain::Instant;
use domain::accounts::UserStatus::{self, Active, Blocked, Deleted, Deleting, Unconfirmed};
use domain::accounts::{
    Client, Language, MAX_TOKENS, MAX_VEHICLES, NewUser, NewVehicle, RegistrationNumber, Token, User, Vehicle,
    tidied_name,
};
use domain::actor::Actor;
use domain::actor::Role::{self, Admin, System, TechSupport};
use domain::error::DomainError;
use domain::id::{ClientId, UserId, VehicleId};
use domain::machine::State;
use proptest::prelude::*;

use crate::random::seeded;

fn now() -> Instant {
    "2026-02-22T10:00:00Z".parse().unwrap()
}

fn user_id() -> UserId {
    UserId::new("u-1").unwrap()
}

fn new_user() -> NewUser {
    NewUser {
        id: user_id(),
        email: Some(" Ada@Example.COM ".to_owned()),
        name: Some("Ada".to_owned()),
        role: Role::User,
        language: Language::De,
        confirmed: false,
        client: None,
    }
}

/// Returns the actor of this role. The actor with role USER is the user itself.
fn actor(role: Role) -> Actor {
    let id = if role == Role::User { "u-1" } else { "staff-1" };
    Actor { user_id: UserId::new(id).unwrap(), role }
}

fn user_in(status: UserStatus) -> User {
    let mut user = User::register(new_user(), now());
    let admin = actor(Admin);
    match status {
        Unconfirmed => {}
        Active => user.confirm().unwrap(),
        Blocked => drop(user.block(&admin, false, "fraud", now()).unwrap()),
        Deleting => user.start_deletion(&admin).unwrap(),
        Deleted => {
            user.start_deletion(&admin).unwrap();
            user.delete(now()).unwrap();
        }
    }
    assert_eq!(user.status, status);
    user
}

type Rule = fn(&UserId, UserStatus, u32) -> Result<(), DomainError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Confirm,
    Block,
    Unblock,
    StartDeletion,
    RefuseDeletion,
    Delete,
    SetRole,
    Update,
}

impl Command {
    fn apply(self, user: &mut User, actor: &Actor) -> Result<(), DomainError> {
        match self {
            Self::Confirm => user.confirm(),
            Self::Block => user.block(actor, true, "fraud", now()).map(drop),
            Self::Unblock => user.unblock(actor, now()).map(drop),
            Self::StartDeletion => user.start_deletion(actor),
            Self::RefuseDeletion => user.refuse_deletion(),
            Self::Delete => user.delete(now()).map(drop),
            Self::SetRole => user.set_role(TechSupport, actor),
            Self::Update => user.update(Some("Grace".to_owned()), None),
        }
    }
}

const ALL: &[Role] = &Role::ALL;
const STAFF: &[Role] = &[TechSupport, Admin, System];
const EXISTING: &[(UserStatus, UserStatus)] =
    &[(Unconfirmed, Unconfirmed), (Active, Active), (Blocked, Blocked), (Deleting, Deleting)];

/// A command with the roles that may give it, and the statuses in which it is possible, each with the status to which
/// it leads.
type Row = (Command, &'static [Role], &'static [(UserStatus, UserStatus)]);

const TABLE: &[Row] = &[
    (Command::Confirm, ALL, &[(Unconfirmed, Active)]),
    (Command::Block, STAFF, &[(Unconfirmed, Blocked), (Active, Blocked)]),
    (Command::Unblock, STAFF, &[(Blocked, Active)]),
    (
        Command::StartDeletion,
        ALL,
        &[(Unconfirmed, Deleting), (Active, Deleting), (Blocked, Deleting), (Deleting, Deleting)],
    ),
    // The user was UNCONFIRMED before.
    (Command::RefuseDeletion, ALL, &[(Deleting, Unconfirmed)]),
    (Command::Delete, ALL, &[(Deleting, Deleted)]),
    (Command::SetRole, &[Admin, System], EXISTING),
    (Command::Update, ALL, EXISTING),
];

#[test]
fn every_command_in_every_status_by_every_role() {
    for (command, roles, steps) in TABLE {
        for status in UserStatus::ALL {
            for role in Role::ALL {
                let before = user_in(*status);
                let mut user = before.clone();
                let result = command.apply(&mut user, &actor(role));
                let what = format!("{command:?} in {status:?} by {role:?}: {result:?}");
                let step = steps.iter().find(|(from, _)| from == status);
                match step {
                    _ if !roles.contains(&role) => {
                        assert!(matches!(result, Err(DomainError::Forbidden(_))), "{what}");
                    }
                    Some((_, to)) => {
                        assert!(result.is_ok(), "{what}");
                        assert_eq!((user.status, user.version), (*to, before.version + 1), "{what}");
                        continue;
                    }
                    None if matches!(command, Command::SetRole | Command::Update) => {
                        assert!(matches!(result, Err(DomainError::NotFound(_))), "{what}");
                    }
                    None => {
                        let Err(DomainError::Conflict(conflict)) = result else { panic!("{what}") };
                        let refused = conflict.transition.expect("a refused transition");
                        assert_eq!(refused.from, status.name(), "{what}");
                        assert!(!refused.allowed.contains(&refused.to), "{what}: {refused:?}");
                    }
                }
                assert_eq!(user, before, "{what}");
            }
        }
    }
}

#[test]
fn nobody_deletes_the_account_of_another_user_but_the_staff() {
    let other = Actor { user_id: UserId::new("u-2").unwrap(), role: Role::User };
    for status in UserStatus::ALL {
        let refused = user_in(*status).start_deletion(&other);
        assert!(matches!(refused, Err(DomainError::Forbidden(_))), "{status:?}: {refused:?}");
    }
}

/// A token is up to 15 minutes older than the row.
#[test]
fn staff_act_in_the_lower_role_of_token_and_row() {
    for (of_row, of_token, acts_as) in [
        (Admin, Admin, Admin),
        (Admin, TechSupport, TechSupport),
        (TechSupport, Admin, TechSupport),
        (Role::User, Admin, Role::User),
        (Admin, Role::User, Role::User),
    ] {
        let user = User { role: of_row, ..user_in(Active) };
        assert_eq!(user.acts_as(of_token), Ok(acts_as), "{of_row:?} {of_token:?}");
        let unregistered = User { registered_at: None, ..user };
        assert_eq!(unregistered.acts_as(of_token), Ok(of_token), "the row says nothing about the role");
    }
    for status in [Blocked, Deleting, Deleted] {
        let user = User { role: Admin, registered_at: None, ..user_in(status) };
        assert!(matches!(user.acts_as(Admin), Err(DomainError::Forbidden(_))), "{status:?}");
    }
}

#[test]
fn an_administrator_is_blocked_and_unblocked_by_administrators() {
    let is_forbidden = |outcome: Result<(), DomainError>| matches!(outcome, Err(DomainError::Forbidden(_)));
    for role in [Role::User, TechSupport, Admin, System] {
        let may = matches!(role, Admin | System);
        for (command, status) in [(Command::Block, Active), (Command::Block, Blocked), (Command::Unblock, Blocked)] {
            let mut user = User { role: Admin, ..user_in(status) };
            let outcome = command.apply(&mut user, &actor(role));
            assert_eq!(is_forbidden(outcome), !may, "{command:?} in {status:?} by {role:?}");
        }
    }
}

#[test]
fn nobody_lifts_their_own_block() {
    for role in [TechSupport, Admin] {
        let mut user = User { role, ..user_in(Blocked) };
        let refused = user.unblock(&Actor { user_id: user_id(), role }, now());
        assert!(matches!(refused, Err(DomainError::Forbidden(_))), "{role:?}: {refused:?}");
        assert_eq!(user.status, Blocked);
    }
}

#[test]
fn a_deletion_that_begins_again_can_still_be_refused() {
    for status in [Unconfirmed, Active, Blocked] {
        let mut user = user_in(status);
        let (before, own) = (user.clone(), actor(Role::User));
        user.start_deletion(&own).unwrap();
        user.start_deletion(&own).unwrap();
        user.refuse_deletion().unwrap();
        assert_eq!(user, User { version: before.version + 3, ..before });
    }
}

#[test]
fn a_deleted_user_has_no_personal_data() {
    let user = user_in(Deleted);
    let bare = NewUser { email: None, name: None, language: Language::En, ..new_user() };
    let bare = User {
        status: Deleted,
        registered_at: None,
        deleted_at: Some(now()),
        version: 3,
        ..User::register(bare, now())
    };
    assert_eq!(user, bare);
    assert_eq!(user.deleted_event().unwrap().user_id, user_id());
    assert!(matches!(user_in(Active).deleted_event(), Err(DomainError::Conflict(_))));
}

/// The groups of a sign-in may have been read before the role was written.
#[test]
fn a_role_counts_until_a_minute_after_the_groups_have_it() {
    let mut user = user_in(Active);
    assert_eq!(user.email.as_deref(), Some("ada@example.com"));
    assert!(!user.signed_in(Role::User, now()), "nothing changes");
    assert!(user.signed_in(Admin, now()), "Cognito alone can make an administrator");
    user.set_role(TechSupport, &actor(Admin)).unwrap();
    assert!(!user.signed_in(Admin, now() + TimeDelta::days(1)), "the groups do not have the new role yet");
    user.role_written(now());
    assert_eq!((user.role, user.role_pending, user.version), (TechSupport, false, 5));
    for seconds in [-5, 0, 59] {
        assert!(!user.signed_in(Admin, now() + TimeDelta::seconds(seconds)), "after {seconds} s");
    }
    assert!(user.signed_in(Admin, now() + TimeDelta::minutes(1)));
    assert_eq!((user.role, user.version), (Admin, 6));
    assert!(matches!(user.set_role(System, &actor(Admin)), Err(DomainError::Validation(_))));
    assert!(!user_in(Deleted).signed_in(Admin, now()));
    let client = Client { id: ClientId::new("c-1").unwrap(), name: "Gate".to_owned(), scopes: Vec::new() };
    assert!(!User { client: Some(client), ..user_in(Active) }.signed_in(Admin, now()), "a client has no group");
}

/// Anybody can sign up at Cognito itself, with any text as a name.
#[test]
fn names_of_the_user_pool_are_tidied() {
    let long = format!(" {} ", "ä".repeat(200));
    let cut = format!("{} {}", "x".repeat(99), "y".repeat(9));
    for (name, tidied) in [
        ("Ada Lovelace", "Ada Lovelace".to_owned()),
        ("  Ada\r\nBcc: eve@example.com\u{7f}\u{85} ", "AdaBcc: eve@example.com".to_owned()),
        ("\n Ada", "Ada".to_owned()),
        (long.as_str(), "ä".repeat(100)),
        (cut.as_str(), "x".repeat(99)),
    ] {
        assert_eq!(tidied_name(name), Some(tidied), "{name:?}");
    }
    for nothing in ["", " ", "\0\n", " \u{1b} "] {
        assert_eq!(tidied_name(nothing), None, "{nothing:?}");
    }
}

/// A registration brings the groups, too.
#[test]
fn a_role_that_was_given_before_the_registration_stays() {
    let mut pending = User { registered_at: None, version: 0, ..user_in(Active) };
    pending.set_role(Admin, &actor(Admin)).unwrap();
    let mut written = pending.clone();
    written.role_written(now());
    for mut user in [pending, written] {
        assert_eq!(user.acts_as(Admin), Ok(Admin));
        assert_eq!(user.acts_as(TechSupport), Ok(TechSupport));
        user.complete(new_user(), now()).unwrap();
        assert_eq!(user.role, Admin);
    }
}

#[test]
fn the_first_sign_in_confirms_and_is_one_change() {
    let mut user = user_in(Unconfirmed);
    assert!(user.signed_in(Admin, now()));
    assert_eq!((user.status, user.role, user.version), (Active, Admin, 2));
    for status in [Blocked, Deleting, Deleted] {
        let mut user = user_in(status);
        assert!(!user.signed_in(Role::User, now()) && user == user_in(status), "{status:?}");
    }
}

#[test]
fn a_row_that_an_operator_wrote_is_completed_once() {
    let bare = User { status: Blocked, registered_at: None, email: None, name: None, version: 0, ..user_in(Blocked) };
    let mut user = bare.clone();
    let event = user.complete(new_user(), now()).unwrap();
    assert_eq!((event.registered_at, event.has_vehicle), (now(), false));
    assert_eq!((user.status, user.version), (Blocked, 1), "a block stays");
    assert_eq!((user.email.as_deref(), user.name.as_deref()), (Some("ada@example.com"), Some("Ada")));
    let complete = user.clone();
    assert_eq!(user.complete(new_user(), now()), None);
    assert_eq!(user, complete);
    let mut named = User { name: Some("Countess".to_owned()), ..bare };
    named.complete(new_user(), now()).unwrap();
    assert_eq!(named.name.as_deref(), Some("Countess"), "what the row has stays");
    assert_eq!(user_in(Deleted).complete(new_user(), now()), None);
}

#[test]
fn vehicles_and_tokens_are_few_and_only_for_users_that_stay() {
    let rules: [(Rule, u32); 2] = [(Vehicle::may_be_added, MAX_VEHICLES), (Token::may_be_added, MAX_TOKENS)];
    for (may_be_added, most) in rules {
        for status in UserStatus::ALL {
            let (last, more) = (may_be_added(&user_id(), *status, most - 1), may_be_added(&user_id(), *status, most));
            match status {
                Unconfirmed | Active | Blocked => assert_eq!(last, Ok(()), "{status:?}"),
                Deleting => assert!(matches!(last, Err(DomainError::Conflict(_))), "{last:?}"),
                Deleted => assert!(matches!(last, Err(DomainError::NotFound(_))), "{last:?}"),
            }
            assert!(more.is_err(), "{status:?}");
        }
    }
}

#[test]
fn a_vehicle_names_every_wrong_field() {
    let id = || VehicleId::new("v-1").unwrap();
    let right = NewVehicle {
        brand: " Renault ".to_owned(),
        model: "Zoe".to_owned(),
        battery_capacity_kwh: 52.0,
        max_power_kw: Some(50.0),
        registration_number: Some(RegistrationNumber::new("B-AB 123").unwrap()),
    };
    assert_eq!(Vehicle::new(id(), right.clone()).unwrap().brand, "Renault");
    let wrong = NewVehicle {
        brand: " ".to_owned(),
        model: "x".repeat(101),
        battery_capacity_kwh: f64::NAN,
        max_power_kw: Some(-1.0),
        ..right
    };
    let Err(DomainError::Validation(errors)) = Vehicle::new(id(), wrong) else { panic!("no errors") };
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["vehicle.brand", "vehicle.model", "vehicle.batteryCapacity", "vehicle.maxPowerKw"]);
}

#[test]
fn registration_numbers_keep_letters_and_digits() {
    for (written, normalised) in [
        ("B-AB 123", "BAB123"),
        ("  mü·xy 12e ", "MÜXY12E"),
        ("ß-1", "SS1"),
        ("１２ 粤B·12345", "１２粤B12345"),
        ("1234 567 890 123 456", "1234567890123456"),
    ] {
        let number = RegistrationNumber::new(written).unwrap();
        assert_eq!((number.as_str(), number.normalised()), (written.trim(), normalised));
    }
    for wrong in ["", "  ", "-·-", "A\tB", "12345678901234567", &format!("A{}B", " ".repeat(31))] {
        let refused = RegistrationNumber::new(wrong);
        assert!(matches!(refused, Err(DomainError::Validation(_))), "{wrong:?}: {refused:?}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter)
}

/// A registration number with 1 to 16 letters and digits, and the same number in another case and with separators.
fn spellings() -> impl Strategy<Value = (String, String)> {
    let letter = prop_oneof![prop::char::range('A', 'Z'), prop::char::range('0', '9'), Just('Ä'), Just('Ö'), Just('Ü')];
    let separator = prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("-"), 1 => Just("·")];
    prop::collection::vec((letter, separator, any::<bool>()), 1..=16).prop_map(|parts| {
        let spelt = parts.iter().map(|(letter, separator, lower)| {
            let letter = if *lower { letter.to_lowercase().to_string() } else { letter.to_string() };
            format!("{letter}{separator}")
        });
        let number: String = parts.iter().map(|(letter, ..)| *letter).collect();
        (number, spelt.collect::<String>())
    })
}

fn commands() -> impl Strategy<Value = Vec<(Command, Role)>> {
    let command = prop::sample::select(TABLE.iter().map(|(command, ..)| *command).collect::<Vec<_>>());
    let role = prop::sample::select(Role::ALL.to_vec());
    prop::collection::vec((command, role), 0..30)
}

proptest! {
    #![proptest_config(seeded(2000))]

    #[test]
    fn every_spelling_of_a_registration_number_is_the_same_number((number, spelt) in spellings()) {
        let (a, b) = (RegistrationNumber::new(&number).unwrap(), RegistrationNumber::new(&spelt).unwrap());
        prop_assert_eq!(a.normalised(), &number);
        prop_assert_eq!(b.normalised(), &number);
        prop_assert_eq!(b.as_str(), spelt.trim());
        prop_assert_eq!(a, b);
    }

    #[test]
    fn any_text_is_a_registration_number_or_refused(text in any_text()) {
        let Ok(number) = RegistrationNumber::new(&text) else { return Ok(()) };
        let normalised = number.normalised();
        prop_assert!((1..=16).contains(&normalised.chars().count()));
        prop_assert!(normalised.chars().all(char::is_alphanumeric));
        let again = RegistrationNumber::new(normalised).unwrap();
        prop_assert_eq!(again.normalised(), normalised);
        let json = serde_json::to_value(&number).unwrap();
        prop_assert_eq!(&json, text.trim());
        prop_assert_eq!(serde_json::from_value::<RegistrationNumber>(json).unwrap(), number);
    }

    #[test]
    fn a_life_of_a_user_follows_a_simple_model(commands in commands()) {
        let mut user = User::register(new_user(), now());
        let (mut status, mut before, mut version) = (Unconfirmed, Unconfirmed, 1);
        for (command, role) in commands {
            let (_, roles, steps) = TABLE.iter().find(|(other, ..)| *other == command).unwrap();
            let step = steps.iter().find(|(from, _)| *from == status).filter(|_| roles.contains(&role));
            let done = command.apply(&mut user, &actor(role));
            prop_assert_eq!(done.is_ok(), step.is_some(), "{:?} in {:?} by {:?}", command, status, role);
            if let Some((_, to)) = step {
                if command == Command::StartDeletion && status != Deleting {
                    before = status;
                }
                status = if command == Command::RefuseDeletion { before } else { *to };
                version += 1;
            }
            prop_assert_eq!((user.status, user.version), (status, version));
            prop_assert_eq!(user.status_before_deletion, (status == Deleting).then_some(before));
            let blocked = status == Blocked || (status == Deleting && before == Blocked);
            prop_assert_eq!(user.blocked_reason.is_some(), blocked);
            prop_assert_eq!(user.email.is_none(), status == Deleted);
        }
    }
}
