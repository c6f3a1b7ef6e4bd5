mod rows;

use aws_sdk_dynamodb::types::AttributeValue;
use backon::Retryable;
use domain::accounts::{
    MAX_TOKENS, MAX_VEHICLES, RegistrationNumber, Token, TokenId, User, UserStatus, Vehicle, normalised_email,
};
use domain::error::DomainError;
use domain::event::Event;
use domain::id::{UserId, VehicleId};
use domain::machine::State;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::dynamodb::{
    Db, Item, Page, PageRequest, Query, Range, ShardedQuery, Table, Transaction, UpdateExpression, backoff, decode,
    delete_if, encode, key, number, outbox, pk_of, resume,
};
use crate::error::StoreError;
use crate::keys::users::{BY_EMAIL, BY_STATUS, CLIENTS};
use crate::{EventContext, keys};
use rows::{OwnerRow, RegistrationRow, TokenRow, UserRow, VehicleRow};

const VERSION: &str = "version";
const STATUS: &str = "status";
const BLOCKED: &str = "blocked";
const VEHICLE_COUNT: &str = "vehicleCount";
const TOKEN_COUNT: &str = "tokenCount";
/// The number of vehicles or tokens that one transaction deletes. Each needs two writes and the user needs one, and a
/// transaction has at most 100 writes.
const ERASED_TOGETHER: usize = 49;

/// Users with their vehicles and charging tokens, in the users table.
///
/// A separate item makes each registration number and each token unique. The item of the user has the counts of
/// vehicles and tokens, so that concurrent requests cannot exceed the limits together. A user without a row can have
/// vehicles and tokens, too: the item then has nothing but the counts, and is not the row of the user.
#[derive(Clone, Debug)]
pub struct UserStore {
    table: Table,
}

/// Selects the users to list.
#[derive(Clone, Debug)]
pub enum UserFilter {
    /// The users in a status, newest first, without machine clients. Deleted users are in no list.
    Status(UserStatus),
    /// The user with an e-mail address.
    Email(String),
    /// The user whose vehicle has a registration number.
    RegistrationNumber(RegistrationNumber),
}

impl UserStore {
    /// Creates the store for `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Returns the status of a user (consistent read). A user with no row is ACTIVE: whoever has a valid token is a
    /// user.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn status(&self, id: &UserId) -> Result<UserStatus, StoreError> {
        Ok(self.owner(id).await?.unwrap_or_default().status())
    }

    async fn owner(&self, id: &UserId) -> Result<Option<OwnerRow>, StoreError> {
        self.table.get(&keys::user(id), keys::METADATA, true).await
    }

    /// Reads a user (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item cannot be decoded.
    pub async fn load(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.read(&keys::user(id)).await
    }

    async fn read(&self, pk: &str) -> Result<Option<User>, StoreError> {
        let row: Option<UserRow> = self.table.get(pk, keys::METADATA, true).await?;
        row.map(UserRow::into_user).transpose()
    }

    /// Writes a new user with the event of the registration, and the user's first vehicle. If the user has an item with
    /// only the counts of vehicles and tokens, the counts stay.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the user already has a row, e.g. one in which an operator has written a block
    /// by hand; [`User::complete`] registers such a user.
    /// [`StoreError::Domain`] (conflict) if the user has as many vehicles as allowed or already has this vehicle, or if
    /// the registration number is taken.
    pub async fn insert(
        &self,
        user: &User,
        vehicle: Option<&Vehicle>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let pk = keys::user(&user.id);
        let event = user.registered_event(vehicle.is_some());
        let outbox = outbox(&pk, keys::METADATA, user.version, event, context)?;
        let row = whole(&pk, UserRow::new(user, outbox))?
            .only_without(STATUS)
            .only_without(VERSION)
            .only_unless(BLOCKED, AttributeValue::Bool(true));
        let row = if vehicle.is_some() { one_more(row, VEHICLE_COUNT, MAX_VEHICLES) } else { row };
        let mut transaction = Transaction::new();
        transaction.update(row.build(self.table.name(), user_key(&user.id))?);
        if let Some(vehicle) = vehicle {
            self.put_vehicle(&mut transaction, &user.id, vehicle)?;
        }
        let inserted = transaction.commit(self.table.db()).await;
        if inserted.as_ref().is_err_and(StoreError::is_stale)
            && let Some(vehicle) = vehicle
            && !self.owner(&user.id).await?.unwrap_or_default().is_registered()
        {
            self.may_add_vehicle(&user.id, vehicle).await?;
        }
        inserted
    }

    /// Writes a changed user with the events of the change. [`Self::erase`] writes a deleted user.
    ///
    /// A block that an operator has written by hand since the user was read stays, unless the change lifts a block.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the user has changed since it was read.
    pub async fn save(&self, user: &User, events: Vec<Event>, context: &EventContext) -> Result<(), StoreError> {
        let pk = keys::user(&user.id);
        let lifts_block = events.iter().any(|event| matches!(event, Event::UserUnblocked(_)));
        let outbox = outbox(&pk, keys::METADATA, user.version, events, context)?;
        let row = UserRow::new(user, outbox);
        let keeps_block = row.blocked == Some(true);
        let change = whole(&pk, row)?.only_with(keys::PK);
        let change = match user.version {
            0 | 1 => change.only_without(VERSION),
            version => change.only_version(version - 1),
        };
        let change =
            if keeps_block || lifts_block { change } else { change.only_unless(BLOCKED, AttributeValue::Bool(true)) };
        self.table.update(change.build(self.table.name(), user_key(&user.id))?).await
    }

    /// Deletes the vehicles, the tokens and the personal data of a user. The last write is the tombstone, the row that
    /// remains, with the event of the deletion. After a failure, read the user again and repeat the deletion.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (conflict) unless the user is DELETED;
    /// [`StoreError::ConditionFailed`] if the user has changed since it was read.
    pub async fn erase(&self, user: &User, context: &EventContext) -> Result<(), StoreError> {
        let event = user.deleted_event()?;
        let (pk, version) = (keys::user(&user.id), user.version.saturating_sub(1));
        for vehicles in self.vehicles(&user.id).await?.chunks(ERASED_TOGETHER) {
            let mut transaction = self.erasure(&user.id, version, VEHICLE_COUNT, vehicles.len())?;
            for vehicle in vehicles {
                self.delete_vehicle(&mut transaction, &user.id, vehicle)?;
            }
            transaction.commit(self.table.db()).await?;
        }
        for tokens in self.tokens(&user.id).await?.chunks(ERASED_TOGETHER) {
            let mut transaction = self.erasure(&user.id, version, TOKEN_COUNT, tokens.len())?;
            for token in tokens {
                self.delete_token(&mut transaction, &user.id, &token.id)?;
            }
            transaction.commit(self.table.db()).await?;
        }
        let outbox = outbox(&pk, keys::METADATA, user.version, [event], context)?;
        let mut transaction = Transaction::new();
        transaction.replace(self.table.name(), encode(&pk, UserRow::tombstone(user, outbox))?, version)?;
        transaction.commit(self.table.db()).await
    }

    /// Returns a transaction that lowers a count of a user by `deleted`, on condition of the user's version. The caller
    /// adds the deletions of the vehicles or tokens.
    fn erasure(&self, user: &UserId, version: u64, attribute: &str, deleted: usize) -> Result<Transaction, StoreError> {
        let deleted = i64::try_from(deleted).unwrap_or(i64::MAX);
        let mut transaction = Transaction::new();
        let count = counted(attribute, -deleted).only_version(version);
        transaction.update(count.build(self.table.name(), user_key(user))?);
        Ok(transaction)
    }

    /// Adds a vehicle of a user.
    ///
    /// # Errors
    /// [`StoreError::Domain`]: not found if the user was deleted; conflict if the user is being deleted, has as many
    /// vehicles as allowed or already has this vehicle, or if the registration number is taken.
    pub async fn add_vehicle(&self, user: &UserId, vehicle: &Vehicle) -> Result<(), StoreError> {
        let attempt = || async {
            let added = self.try_add_vehicle(user, vehicle).await;
            if added.as_ref().is_err_and(StoreError::is_stale) {
                self.may_add_vehicle(user, vehicle).await?;
            }
            added
        };
        attempt.retry(backoff()).when(StoreError::is_stale).await
    }

    async fn try_add_vehicle(&self, user: &UserId, vehicle: &Vehicle) -> Result<(), StoreError> {
        let mut transaction = self.addition(user, VEHICLE_COUNT, MAX_VEHICLES)?;
        self.put_vehicle(&mut transaction, user, vehicle)?;
        transaction.commit(self.table.db()).await
    }

    /// Returns the rule that forbids to add a vehicle as an error. `Ok` means that no rule forbids it any more.
    async fn may_add_vehicle(&self, user: &UserId, vehicle: &Vehicle) -> Result<(), StoreError> {
        let owner = self.owner(user).await?.unwrap_or_default();
        Vehicle::may_be_added(user, owner.status(), owner.vehicle_count)?;
        if self.vehicle(user, &vehicle.id).await?.is_some() {
            return Err(DomainError::conflict(format!("vehicle {} exists already", vehicle.id)).into());
        }
        match &vehicle.registration_number {
            Some(number) if self.by_registration_number(number).await?.is_some() => Err(number.taken().into()),
            _ => Ok(()),
        }
    }

    /// Removes a vehicle of a user. Its registration number is free again.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (not found) if the user has no such vehicle.
    pub async fn remove_vehicle(&self, user: &UserId, id: &VehicleId) -> Result<(), StoreError> {
        let attempt = || async {
            let vehicle = self.vehicle(user, id).await?.ok_or_else(|| DomainError::not_found("vehicle", id))?;
            let mut transaction = self.removal(user, VEHICLE_COUNT)?;
            self.delete_vehicle(&mut transaction, user, &vehicle)?;
            transaction.commit(self.table.db()).await
        };
        attempt.retry(backoff()).when(StoreError::is_stale).await
    }

    /// Returns the vehicles of a user (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn vehicles(&self, user: &UserId) -> Result<Vec<Vehicle>, StoreError> {
        let rows: Vec<VehicleRow> = self.owned(user, keys::VEHICLES).await?;
        Ok(rows.into_iter().map(VehicleRow::into_vehicle).collect())
    }

    /// Reads a vehicle of a user (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item cannot be decoded.
    pub async fn vehicle(&self, user: &UserId, id: &VehicleId) -> Result<Option<Vehicle>, StoreError> {
        let row: Option<VehicleRow> = self.table.get(&keys::user(user), &keys::vehicle(id), true).await?;
        Ok(row.map(VehicleRow::into_vehicle))
    }

    /// Returns the user and the vehicle with a registration number (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item cannot be decoded.
    pub async fn by_registration_number(
        &self,
        number: &RegistrationNumber,
    ) -> Result<Option<(UserId, VehicleId)>, StoreError> {
        let row: Option<RegistrationRow> = self.table.get(&keys::registration(number), keys::METADATA, true).await?;
        Ok(row.map(|row| (row.user_id, row.vehicle_id)))
    }

    /// Adds a charging token of a user.
    ///
    /// # Errors
    /// [`StoreError::Domain`]: not found if the user was deleted; conflict if the user is being deleted, has as many
    /// tokens as allowed, or if the token is registered already.
    pub async fn add_token(&self, user: &UserId, token: &Token) -> Result<(), StoreError> {
        let attempt = || async {
            let added = self.try_add_token(user, token).await;
            if added.as_ref().is_err_and(StoreError::is_stale) {
                self.may_add_token(user, token).await?;
            }
            added
        };
        attempt.retry(backoff()).when(StoreError::is_stale).await
    }

    async fn try_add_token(&self, user: &UserId, token: &Token) -> Result<(), StoreError> {
        let mut transaction = self.addition(user, TOKEN_COUNT, MAX_TOKENS)?;
        for row in [TokenRow::new(user, token), TokenRow::unique(user, token)] {
            transaction.insert(self.table.name(), encode("a charging token", row)?)?;
        }
        transaction.commit(self.table.db()).await
    }

    /// Returns the rule that forbids to add a token as an error. `Ok` means that no rule forbids it any more.
    async fn may_add_token(&self, user: &UserId, token: &Token) -> Result<(), StoreError> {
        let owner = self.owner(user).await?.unwrap_or_default();
        Token::may_be_added(user, owner.status(), owner.token_count)?;
        match self.token(&token.id).await? {
            Some(_) => Err(token.id.taken().into()),
            None => Ok(()),
        }
    }

    /// Removes a charging token of a user.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (not found) if the user has no such token.
    pub async fn remove_token(&self, user: &UserId, id: &TokenId) -> Result<(), StoreError> {
        let attempt = || async {
            let owner = self.token(id).await?.map(|(owner, _)| owner);
            owner.filter(|owner| owner == user).ok_or_else(|| id.unknown())?;
            let mut transaction = self.removal(user, TOKEN_COUNT)?;
            self.delete_token(&mut transaction, user, id)?;
            transaction.commit(self.table.db()).await
        };
        attempt.retry(backoff()).when(StoreError::is_stale).await
    }

    /// Returns the charging tokens of a user (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn tokens(&self, user: &UserId) -> Result<Vec<Token>, StoreError> {
        let rows: Vec<TokenRow> = self.owned(user, keys::TOKENS).await?;
        Ok(rows.into_iter().map(TokenRow::into_token).collect())
    }

    /// Returns a charging token and its user (consistent read).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item cannot be decoded.
    pub async fn token(&self, id: &TokenId) -> Result<Option<(UserId, Token)>, StoreError> {
        let row: Option<TokenRow> = self.table.get(&keys::token(id), keys::METADATA, true).await?;
        Ok(row.map(|row| (row.user_id.clone(), row.into_token())))
    }

    /// Returns the user with an e-mail address. A user who was registered a moment ago may not be found yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read;
    /// [`StoreError::Corrupt`] if the item cannot be decoded.
    pub async fn by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let email = normalised_email(email);
        if email.is_empty() {
            return Ok(None);
        }
        let query = Query { index: Some(&BY_EMAIL), partition: email.clone(), ..Query::default() };
        for found in self.table.query_all(&query).await? {
            let user = self.read(&pk_of(&found).unwrap_or_default()).await?;
            // The index may still have the address of a user who was deleted a moment ago.
            if user.as_ref().is_some_and(|user| user.email.as_deref() == Some(email.as_str())) {
                return Ok(user);
            }
        }
        Ok(None)
    }

    /// Lists users.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn list(&self, filter: &UserFilter, page: &PageRequest) -> Result<Page<User>, StoreError> {
        let found = match filter {
            UserFilter::Status(status) => return self.list_by_status(*status, page).await,
            UserFilter::Email(email) => self.by_email(email).await?,
            UserFilter::RegistrationNumber(number) => match self.by_registration_number(number).await? {
                Some((user, _)) => self.load(&user).await?,
                None => None,
            },
        };
        // This list has only one page, so no page token is valid.
        resume::<IgnoredAny>("one user", page.next_token.as_deref())?;
        Ok(Page { items: found.into_iter().collect(), next_token: None })
    }

    async fn list_by_status(&self, status: UserStatus, page: &PageRequest) -> Result<Page<User>, StoreError> {
        let list = format!("users by status {}", status.name());
        let query = ShardedQuery { index: &BY_STATUS, value: status.name(), between: None };
        let decode = |item| decode::<UserRow>("user", item)?.into_user();
        // An operator may have blocked a user by hand, which does not change the index.
        self.table.list_sharded(&query, &list, page, decode, |user| user.status == status).await
    }

    /// Lists the machine clients, newest first.
    ///
    /// # Errors
    /// [`StoreError::Domain`] (validation) for a token of another list;
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn clients(&self, page: &PageRequest) -> Result<Page<User>, StoreError> {
        let query = Query {
            index: Some(&CLIENTS),
            partition: keys::CLIENTS.to_owned(),
            newest_first: true,
            ..Query::default()
        };
        let decode = |item| decode::<UserRow>("user", item)?.into_user();
        self.table.list(&query, "machine clients", page, decode, |user| user.client.is_some()).await
    }

    /// Returns the items of a user whose sort keys begin with `prefix`.
    async fn owned<T: DeserializeOwned>(&self, user: &UserId, prefix: &str) -> Result<Vec<T>, StoreError> {
        let query = Query {
            partition: keys::user(user),
            range: Range::Prefix(prefix.to_owned()),
            consistent: true,
            ..Query::default()
        };
        let items = self.table.query_all(&query).await?;
        items.into_iter().map(|item| decode(&query.partition, item)).collect()
    }

    /// Returns a transaction that counts one more vehicle or token of a user, on condition that there are less than
    /// `most` and that the user is neither DELETING nor DELETED. The user may have no row.
    fn addition(&self, user: &UserId, attribute: &str, most: u32) -> Result<Transaction, StoreError> {
        let status = |status: UserStatus| AttributeValue::S(status.name().to_owned());
        let count = one_more(UpdateExpression::new().remove(keys::OUTBOX), attribute, most)
            .only_unless(STATUS, status(UserStatus::Deleting))
            .only_unless(STATUS, status(UserStatus::Deleted));
        let mut transaction = Transaction::new();
        transaction.update(count.build(self.table.name(), user_key(user))?);
        Ok(transaction)
    }

    /// Returns a transaction that lowers the count of vehicles or tokens of a user by one.
    fn removal(&self, user: &UserId, attribute: &str) -> Result<Transaction, StoreError> {
        let mut transaction = Transaction::new();
        transaction.update(counted(attribute, -1).build(self.table.name(), user_key(user))?);
        Ok(transaction)
    }

    fn put_vehicle(&self, transaction: &mut Transaction, user: &UserId, vehicle: &Vehicle) -> Result<(), StoreError> {
        let what = vehicle.id.as_str();
        transaction.insert(self.table.name(), encode(what, VehicleRow::new(user, vehicle))?)?;
        if let Some(number) = &vehicle.registration_number {
            let unique = RegistrationRow::new(number, user, &vehicle.id);
            transaction.insert(self.table.name(), encode(what, unique)?)?;
        }
        Ok(())
    }

    fn delete_vehicle(
        &self,
        transaction: &mut Transaction,
        user: &UserId,
        vehicle: &Vehicle,
    ) -> Result<(), StoreError> {
        let own = key(&keys::user(user), &keys::vehicle(&vehicle.id));
        let number = vehicle.registration_number.as_ref();
        let unique = number.map(|number| key(&keys::registration(number), keys::METADATA));
        for item in std::iter::once(own).chain(unique) {
            let is = AttributeValue::S(vehicle.id.to_string());
            transaction.delete(delete_if(self.table.name(), item, "vehicleId", is)?);
        }
        Ok(())
    }

    fn delete_token(&self, transaction: &mut Transaction, user: &UserId, id: &TokenId) -> Result<(), StoreError> {
        let own = key(&keys::user(user), &keys::token(id));
        let unique = key(&keys::token(id), keys::METADATA);
        for item in [own, unique] {
            transaction.delete(delete_if(self.table.name(), item, "userId", AttributeValue::S(user.to_string()))?);
        }
        Ok(())
    }
}

fn user_key(id: &UserId) -> Item {
    key(&keys::user(id), keys::METADATA)
}

/// Returns the change that writes every attribute of a user's row but the two counts.
fn whole(pk: &str, row: UserRow) -> Result<UpdateExpression, StoreError> {
    let mut item = encode(pk, row)?;
    item.remove(keys::PK);
    item.remove(keys::SK);
    Ok(UpdateExpression::new().set_all(item, &rows::OPTIONAL))
}

/// Adds one to the number of a user's vehicles or tokens, on condition that there are less than `most`.
fn one_more(change: UpdateExpression, attribute: &str, most: u32) -> UpdateExpression {
    change.add(attribute, 1).only_unless_above(attribute, number(most.saturating_sub(1)))
}

/// Returns a change of the count of a user's vehicles or tokens. The version stays the same, because changes of the
/// user do not write the counts.
fn counted(attribute: &str, change: i64) -> UpdateExpression {
    UpdateExpression::new().add(attribute, change).remove(keys::OUTBOX)
}
