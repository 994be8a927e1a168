//! The child-process engine on a real `llama-server`, or on shell scripts where that would not do what is tested.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "test code: a panic is how it fails")]

mod adopt;
mod bed;
mod fail;
mod serve;
mod slots;
