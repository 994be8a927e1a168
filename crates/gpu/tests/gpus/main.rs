//! GPUs as they are read: NVIDIA's through the real wrapper of NVML, on a library of ours that plays scenes, or on the
//! driver's own where there is one; AMD's and Intel's out of trees of files of ours, as the kernel has them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

mod energy;
mod files;
mod nvml;
mod owners;
mod smi;
mod tree;
