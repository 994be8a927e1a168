//! `llama-server` in a container or as a child process: start, readiness, logs, end.

pub mod args;
pub mod docker;
mod engines;
pub mod environment;
pub mod exit;
pub mod files;
pub mod health;
pub mod logs;
pub mod process;
mod progress;
mod read_ahead;

#[cfg(test)]
mod fixture;

pub use engines::Engines;
pub use environment::{EngineConfig, Environment};
