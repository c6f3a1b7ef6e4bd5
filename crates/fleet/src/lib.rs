//! Simulated battery-swap stations: their physics, their certificates, their MQTT.
//!
//! A station is registered as a thing by the deployed provisioning template, with a claim that an operator makes, and
//! reports over MQTT with the certificate it was given. It works against the local cloud and against AWS IoT Core alike.

mod broker;
mod device;
mod provisioning;
mod station;

pub use broker::{Broker, Identity, Line, LineEvent};
pub use device::{Device, Faults, Progress, Report, SOMEBODY_ELSE, Schedule};
pub use provisioning::Registry;
pub use station::SwapStation;
