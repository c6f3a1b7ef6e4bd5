//! The tests of fleets that are too large for one invocation: how they are handed on, what happens when the time is up,
//! and how much of them an invocation reads. And what subscribers are told of a tick. They are one binary, so that the
//! crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // small numbers

mod common;
mod hand_on;
mod live;
mod million;
mod out_of_time;
