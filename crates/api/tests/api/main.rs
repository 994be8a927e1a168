//! The management API over real sockets, on the real controller over fakes of its ports.

#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

mod bench;
mod bodies;
mod configuration;
mod doors;
mod fit;
mod gpu;
mod handed;
mod operations;
mod reads;
mod sessions;
mod streams;
mod ui;
mod usage;
