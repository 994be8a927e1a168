//! What tests stand on: fakes of the ports, a sandboxed home and a tiny GGUF writer. Never part of the program.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "test code: a panic is how it fails")]

pub mod configuration;
pub mod fakes;
pub mod gguf;
pub mod gpu;
pub mod home;
pub mod launch;
pub mod live;
pub mod usage;
pub mod wait;

pub use configuration::{FakeConfiguration, FakeMachine};
pub use gguf::TinyModel;
pub use gpu::FakeGpu;
pub use home::SandboxHome;
pub use launch::launch_spec;
pub use live::FakeLive;
pub use usage::FakeUsage;
pub use wait::eventually;
