//! The Docker engine, on the real one with a real `llama-server`.
//!
//! `CORRAL_TEST_IMAGE` names the image; by default it is the one that `scripts/llama-image.sh` makes.

#![allow(clippy::expect_used, unreachable_pub, reason = "helpers of tests, in a program of their own")]

mod absent;
mod build;
mod fail;
mod fake;
mod serve;
mod slots;
mod world;
