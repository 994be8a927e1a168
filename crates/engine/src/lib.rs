//! `llama-server` in a container or as a child process: start, readiness, logs, end.

pub mod args;
mod build;
pub mod docker;
mod engines;
pub mod environment;
mod errors;
pub mod exit;
pub mod files;
pub mod health;
mod load;
pub mod logs;
pub mod process;
mod progress;
mod random;
mod read_ahead;
mod slot_files;

pub use build::Builds;
pub use engines::Engines;
pub use environment::{EngineConfig, Environment};
pub use slot_files::SlotFiles;
