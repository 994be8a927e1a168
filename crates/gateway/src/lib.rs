//! The inference port that outlives every switch: it routes requests, holds them while models change, streams the
//! answers and counts their tokens.

mod adapt;
mod answer;
mod body;
mod conversation;
mod door;
mod events;
mod exchange;
mod failure;
mod head;
mod intake;
mod meter;
mod models;
mod pace;
mod peek;
mod pool;
mod prompt;
mod schedule;
mod server;
mod service;
mod tally;
mod traffic;
mod upstream;
mod worker;

pub use self::server::{GatewayPorts, serve};
pub use self::tally::Tally;
pub use self::traffic::{Gate, OpenServer};
