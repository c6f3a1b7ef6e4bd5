//! The tests of the audit: what it finds in the books, and that it can be interrupted. They are one binary, so that the
//! crate's tests are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod defects;
mod resumes;
