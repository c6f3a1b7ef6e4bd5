use domain::Instant;
use domain::accounts::{Client, Language, RegistrationNumber, Token, TokenId, TokenType, User, UserStatus, Vehicle};
use domain::actor::Role;
use domain::id::{UserId, VehicleId};
use domain::machine::State;
use serde::{Deserialize, Serialize};

use crate::dynamodb::time;
use crate::error::StoreError;
use crate::keys;

/// The attributes of [`UserRow`] that a row may lack.
pub const OPTIONAL: [&str; 12] = [
    "email",
    "name",
    "rolePending",
    "roleWrittenAt",
    "blockedReason",
    "deletingFrom",
    "registeredAt",
    "deletedAt",
    "client",
    keys::users::BY_STATUS.partition,
    keys::users::CLIENTS.partition,
    keys::OUTBOX,
];

/// A user. Operators also write such rows by hand, and these rows may lack every attribute. The same item has the
/// counts of vehicles and tokens ([`OwnerRow`]), which only the writes of vehicles and tokens change.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    role_pending: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    role_written_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<UserStatus>,
    /// Decides whether the user is blocked, unless the status is DELETING or DELETED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocked_reason: Option<String>,
    /// The status before the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleting_from: Option<UserStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<Language>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    registered_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    deleted_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<Client>,
    #[serde(default)]
    version: u64,
    /// Partition key of `status-index`. This attribute and `client_shard` are only used by the indexes.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    status_shard: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    client_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

/// The attributes of a user's item that decide whether the user may have one more vehicle or token. The item of a user
/// without a row has nothing but the counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRow {
    #[serde(default)]
    status: Option<UserStatus>,
    #[serde(default)]
    blocked: Option<bool>,
    #[serde(default)]
    pub vehicle_count: u32,
    #[serde(default)]
    pub token_count: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VehicleRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    vehicle_id: VehicleId,
    brand: String,
    model: String,
    battery_capacity: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_power_kw: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration_number: Option<RegistrationNumber>,
}

/// The item that makes a registration number unique.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    pub user_id: UserId,
    pub vehicle_id: VehicleId,
}

/// A charging token. Each token has two such items: one among the items of its user, and one that makes the token
/// unique.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    pub user_id: UserId,
    token_id: TokenId,
    #[serde(rename = "type")]
    kind: TokenType,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    valid_until: Option<Instant>,
}

impl UserRow {
    pub fn new(user: &User, outbox: Option<String>) -> Self {
        let is_client = user.client.is_some();
        let blocked = [Some(user.status), user.status_before_deletion].contains(&Some(UserStatus::Blocked));
        Self {
            pk: keys::user(&user.id),
            sk: keys::METADATA.to_owned(),
            email: user.email.clone(),
            name: user.name.clone(),
            role: Some(user.role),
            role_pending: user.role_pending,
            role_written_at: user.role_written_at,
            status: Some(user.status),
            blocked: Some(blocked),
            blocked_reason: user.blocked_reason.clone(),
            deleting_from: user.status_before_deletion,
            language: Some(user.language),
            registered_at: user.registered_at,
            deleted_at: user.deleted_at,
            client: user.client.clone(),
            version: user.version,
            status_shard: (!is_client).then(|| keys::sharded(user.status.name(), user.id.shard(keys::SHARDS))),
            client_shard: is_client.then(|| keys::CLIENTS.to_owned()),
            outbox,
        }
    }

    /// Returns the tombstone of a deleted user, which is in no index.
    pub fn tombstone(user: &User, outbox: Option<String>) -> Self {
        Self {
            pk: keys::user(&user.id),
            sk: keys::METADATA.to_owned(),
            status: Some(user.status),
            deleted_at: user.deleted_at,
            version: user.version,
            outbox,
            ..Self::default()
        }
    }

    pub fn into_user(self) -> Result<User, StoreError> {
        let id = UserId::new(keys::id_of(&self.pk)).map_err(|error| StoreError::corrupt(&self.pk, error))?;
        let status = UserStatus::of_row(self.status, self.blocked);
        let before = UserStatus::of_row(self.deleting_from, self.blocked);
        Ok(User {
            id,
            email: self.email,
            name: self.name,
            role: self.role.unwrap_or(Role::User),
            role_pending: self.role_pending,
            role_written_at: self.role_written_at,
            status,
            status_before_deletion: (status == UserStatus::Deleting).then_some(before),
            blocked_reason: self.blocked_reason,
            language: self.language.unwrap_or_default(),
            registered_at: self.registered_at,
            deleted_at: self.deleted_at,
            client: self.client,
            version: self.version,
        })
    }
}

impl OwnerRow {
    /// Returns whether the item is the row of a user or has a block, so that no user may be inserted.
    pub fn is_registered(&self) -> bool {
        self.status.is_some() || self.blocked == Some(true)
    }

    pub fn status(&self) -> UserStatus {
        UserStatus::of_row(self.status, self.blocked)
    }
}

impl VehicleRow {
    pub fn new(user: &UserId, vehicle: &Vehicle) -> Self {
        Self {
            pk: keys::user(user),
            sk: keys::vehicle(&vehicle.id),
            vehicle_id: vehicle.id.clone(),
            brand: vehicle.brand.clone(),
            model: vehicle.model.clone(),
            battery_capacity: vehicle.battery_capacity_kwh,
            max_power_kw: vehicle.max_power_kw,
            registration_number: vehicle.registration_number.clone(),
        }
    }

    pub fn into_vehicle(self) -> Vehicle {
        Vehicle {
            id: self.vehicle_id,
            brand: self.brand,
            model: self.model,
            battery_capacity_kwh: self.battery_capacity,
            max_power_kw: self.max_power_kw,
            registration_number: self.registration_number,
        }
    }
}

impl RegistrationRow {
    pub fn new(number: &RegistrationNumber, user: &UserId, vehicle: &VehicleId) -> Self {
        Self {
            pk: keys::registration(number),
            sk: keys::METADATA.to_owned(),
            user_id: user.clone(),
            vehicle_id: vehicle.clone(),
        }
    }
}

impl TokenRow {
    /// Returns the item of the token among those of its user.
    pub fn new(user: &UserId, token: &Token) -> Self {
        Self::at(keys::user(user), keys::token(&token.id), user, token)
    }

    /// Returns the item that makes the token unique.
    pub fn unique(user: &UserId, token: &Token) -> Self {
        Self::at(keys::token(&token.id), keys::METADATA.to_owned(), user, token)
    }

    fn at(pk: String, sk: String, user: &UserId, token: &Token) -> Self {
        Self {
            pk,
            sk,
            user_id: user.clone(),
            token_id: token.id.clone(),
            kind: token.kind,
            valid_until: token.valid_until,
        }
    }

    pub fn into_token(self) -> Token {
        Token { id: self.token_id, kind: self.kind, valid_until: self.valid_until }
    }
}
