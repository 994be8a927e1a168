//! A jail for agents: an allowlist of files, no network but two ports, no privileges, one terminal of its own.
//!
//! A [`Policy`] says what may be seen and done. Outside, [`launch`] turns it into arguments for bubblewrap and starts that;
//! inside, [`init`] is the first process, finishes the jail and runs commands in it.

#[cfg(test)]mod bed;
pub mod audit;
mod beneath;
pub mod keyring;
pub mod landlock_layer;
pub mod protected;
pub mod protocol;
pub mod seccomp;
mod shown;
pub mod support;
pub mod workspace;
