//! The harness of the end-to-end tests: the real `corral`, a real Docker engine and a real `llama-server`, each test
//! with a home of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(clippy::print_stderr, reason = "test code: what the daemon printed is shown when a test fails")]

pub mod api;
pub mod catalog;
pub mod claude;
pub mod daemon;
pub mod display;
pub mod docker;
pub mod editor;
pub mod engine;
pub mod fit;
pub mod gateway;
pub mod gpu_readings;
pub mod http;
pub mod inference;
pub mod jail;
pub mod lent_engine;
pub mod load;
pub mod local;
pub mod panel;
pub mod parts;
pub mod process;
pub mod question;
pub mod random;
pub mod registry;
pub mod small_disk;
pub mod template;
pub mod tmux;
pub mod user;
pub mod wait;
pub mod window;

pub use api::{Answer, Api};
pub use catalog::Models;
pub use claude::Claude;
pub use daemon::{Daemon, Ended};
pub use display::Display;
pub use docker::Docker;
pub use gateway::Client;
pub use inference::Inference;
pub use local::Local;
pub use panel::{Bus, Panel};
pub use question::{Manner, Question, prompt};
pub use wait::until;
pub use window::Window;

/// How long anything on these small models may take, unless a test is about its time. A busy machine of two cores is
/// no reason to fail.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
