//! The tests of the pipeline of telemetry: its rules with faults, a large batch, what subscribers are told, and the real
//! binary that is killed. They are one binary, so that the crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod killed;
mod large_batch;
mod live;
mod pipeline;
