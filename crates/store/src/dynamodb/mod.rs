//! The parts of `DynamoDB` access that every aggregate needs: tables, items, queries, lists, transactions, retries and
//! the outbox.

mod capacity;
mod db;
mod item;
mod lists;
mod near;
mod outbox;
mod page;
mod retry;
mod sharded;
mod table;
pub(crate) mod time;
mod transaction;

pub use capacity::{Capacity, Units};
pub use db::Db;
pub use page::{Page, PageRequest};
pub use table::Table;
pub use transaction::Transaction;

pub(crate) use item::{Item, decode, encode, json, key, left_out, number, pk_of, readable};
pub(crate) use near::Near;
pub(crate) use outbox::outbox;
pub(crate) use page::{resume, token};
pub(crate) use retry::backoff;
pub(crate) use sharded::ShardedQuery;
pub(crate) use table::{Query, Range};
pub(crate) use transaction::{Update, UpdateExpression, delete_if};
