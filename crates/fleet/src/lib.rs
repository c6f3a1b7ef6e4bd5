//! Simulated battery-swap stations: their physics, certificates and MQTT connections.
//!
//! A station is registered as a thing by the deployed provisioning template, with a provisioning claim that an operator
//! creates. It then reports over MQTT with the certificate that it received. This works with the local cloud and with
//! AWS IoT Core.

mod broker;
mod device;
mod provisioning;
mod station;

pub use broker::{Broker, Identity, Line, LineEvent};
pub use device::{Device, Faults, Progress, Report, SOMEBODY_ELSE, Schedule};
pub use provisioning::Registry;
pub use station::SwapStation;
