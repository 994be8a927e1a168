//! The composition: the controller with its real adapters, as `corral serve` and the tray run it.

mod adapters;
mod autostart;
mod catalog_file;
mod configuration;
mod doctor;
mod energy;
mod folders;
mod gpu;
mod hex;
pub mod jails;
mod live;
mod machine;
mod memory;
mod paths;
mod runtime_files;
mod serve;
mod settings_file;
mod stderr_log;
mod usage;
mod watched_files;

pub use autostart::Autostart;
pub use catalog_file::{ensure_catalog, read_catalog_or_examples};
pub use corral_engine::Environment;
pub use corral_engine::files::{check_model, check_projector};
pub use doctor::{Finding, Status, doctor};
pub use folders::{recent_folders, remember_folder};
pub use paths::Paths;
pub use runtime_files::{DaemonFile, private_dir, read_token};
pub use serve::{ServeOptions, Serving, run, runtime, serve};
pub use settings_file::read_settings;
pub use stderr_log::log_to_stderr;
pub use watched_files::whenever_changed;
