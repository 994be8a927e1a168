//! The composition: the controller with its real adapters, as `corral serve` runs it.

mod adapters;
mod catalog_file;
mod doctor;
mod hex;
pub mod jails;
mod paths;
mod runtime_files;
mod serve;
mod settings_file;
mod usage;
mod watched_file;

pub use catalog_file::{ensure_catalog, read_catalog_or_examples};
pub use corral_engine::Environment;
pub use corral_engine::files::{check_model, check_projector};
pub use doctor::{Finding, Status, doctor};
pub use paths::Paths;
pub use runtime_files::{DaemonFile, read_token};
pub use serve::{ServeOptions, Serving, serve};
pub use settings_file::read_settings;
