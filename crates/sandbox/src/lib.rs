//! A jail for agents: an allowlist of files, no network but two ports, no privileges, one terminal of its own.
//!
//! A [`Policy`] says what may be seen and done. Outside, [`launch`] turns it into arguments for bubblewrap and starts that;
//! inside, [`init`] is the first process, finishes the jail and runs commands in it.

mod arguments;
mod attend;
pub mod audit;
#[cfg(test)]
mod bed;
mod beneath;
mod channel;
mod held;
mod info;
pub mod init;
pub mod keyring;
pub mod landlock_layer;
mod launch;
pub mod memory;
mod policy;
mod processes;
pub mod protected;
pub mod protocol;
pub mod seccomp;
pub mod shell;
mod shown;
pub mod support;
mod terminal;
pub mod workspace;

pub use self::arguments::{Argument, Etc, Host, INIT, Source, arguments};
pub use self::attend::Main;
pub use self::launch::Jail;
pub use self::policy::{Access, Bind, DataFile, GATEWAY_PORT, HOME, MANAGEMENT_PORT, Policy};
