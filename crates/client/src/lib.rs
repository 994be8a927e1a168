//! The management API, from a client's side: what the command line, the tray and the window ask a running daemon.

mod client;
mod events;
mod programs;

pub use client::{Client, Patience};
pub use events::{Event, events, raw, snapshots};
pub use programs::Programs;
