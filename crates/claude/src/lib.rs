//! Claude Code on a local model: its profile, its environment, what has to be there before it starts, and the terminal
//! that it opens in.
//!
//! Nothing here starts a jail or asks a server. The paths that end in "inside" are those that the jailed program sees.

pub mod environment;
pub mod ide;
pub mod managed;
pub mod preflight;
pub mod profile;
pub mod program;
pub mod terminal;
pub mod version;

mod folder;
mod json;
mod lookup;
mod run;

/// Looks a variable of the user's environment up.
pub type Variables<'a> = dyn Fn(&str) -> Option<std::ffi::OsString> + 'a;

/// The home folder of the user in the jail: the profile folder is there.
pub const HOME_INSIDE: &str = "/home/user";
/// Where Claude Code looks for the settings that outrank all others.
pub const MANAGED_SETTINGS_INSIDE: &str = "/etc/claude-code/managed-settings.json";
/// The gateway's port in the jail, whatever it is outside.
pub const GATEWAY_PORT: u16 = 8080;
/// The management API's port in the jail, whatever it is outside.
pub const MANAGEMENT_PORT: u16 = 8081;
