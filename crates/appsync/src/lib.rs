//! A client of Evoke's GraphQL API, which runs on AWS `AppSync`.
//!
//! Queries and mutations are HTTP requests ([`AppSync::execute`]). A subscription gets its updates through a WebSocket
//! ([`AppSync::subscribe`]), by the protocol that AWS describes in "Building a real-time WebSocket client" of the
//! `AppSync` developer guide. The client works the same on AWS and on the local cloud.

mod authorization;
mod client;
mod connection;
mod error;
mod frame;
mod live;
mod subscription;
mod update;

pub use authorization::{Authorization, Credentials};
pub use client::{Answer, AppSync};
pub use error::{Error, GraphQlError};
pub use live::{Event, Live};
pub use subscription::Subscription;
pub use update::{
    OperatorAlert, SessionProgress, SessionUpdate, StationProgress, StationUpdate, SwapStationUpdate, Update,
    WalletUpdate,
};
