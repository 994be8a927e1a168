//! The built program, used as a person and as a script would.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in a test, what is missing has failed it")]

mod offline;
mod online;
mod support;
