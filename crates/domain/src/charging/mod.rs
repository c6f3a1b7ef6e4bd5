//! Charging: sites with their stations, ports and sessions, and the tariffs that price a session.

pub mod connector;
pub mod session;
pub mod site;
pub mod station;
pub mod tariff;
