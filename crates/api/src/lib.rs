//! The management API: what the tray, the command line and scripts ask of a running Corral over HTTP on loopback.
//!
//! [`router`] and [`openapi`] are both made from one table of routes, so neither can know a route the other does not.
//! The document is assembled by hand from that table: `aide` was considered, but for the present axum and schemars it
//! exists as an alpha only.

mod blocking;
mod body;
mod configuration;
mod control;
pub mod dto;
mod entrance;
mod events;
mod failure;
mod gpu;
mod guard;
mod live;
mod logs;
mod machine;
mod metrics;
mod models;
mod openapi;
mod peer;
mod query;
mod quote;
mod read;
mod router;
mod routes;
mod serve;
mod sessions;
mod ui;
mod usage;

pub use failure::status_of;
pub use metrics::Metrics;
pub use openapi::openapi;
pub use router::{ApiState, router};
pub use serve::serve;
pub use ui::ui_file;
