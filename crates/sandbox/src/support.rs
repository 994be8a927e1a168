//! What this machine offers for a jail: for `corral doctor`, and for a jail that cannot be built.

mod judge;
mod look;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;

use corral_core::{Code, Error, Result};

use crate::memory::{MemoryBound, Unbounded};

/// What bubblewrap has to know: `--disable-userns` came with 0.8, and the descriptors with a security fix of 2024.
const OPTIONS: [&str; 6] =
    ["--args", "--as-pid-1", "--assert-userns-disabled", "--bind-fd", "--disable-userns", "--ro-bind-fd"];

/// Looks at the machine, and tries bubblewrap out. `path` is the `PATH` that it is looked up in where `/usr/bin` has
/// none. Where a bound of memory is given, it is tried out as well.
pub fn probe(path: &OsStr, memory: Option<&MemoryBound>) -> Support {
    judge::judge(look::look(&look::Machine::this(path, memory)))
}

/// What there is, and what is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// The bubblewrap that was found, fit for use or not.
    pub bwrap: Option<Bwrap>,
    /// Why no jail can be built.
    pub obstacle: Option<Obstacle>,
    /// The number of Landlock's ABI, none where the kernel lacks it: the jail then has a wall less.
    pub landlock: Option<u8>,
    /// The kernel takes filters of system calls.
    pub seccomp: bool,
    /// The most memory that all of a jail takes, in bytes, or why that is not bounded.
    pub memory: std::result::Result<u64, Unbounded>,
}

/// A bubblewrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bwrap {
    /// The program.
    pub path: PathBuf,
    /// Its version, for instance `0.8.0`; empty where it told none.
    pub version: String,
}

/// Why no jail can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no bubblewrap.
    Missing {
        /// The command that installs it, where the distribution is known.
        install: Option<&'static str>,
    },
    /// It lacks options that the jail needs.
    TooOld {
        /// Which.
        lacks: Vec<&'static str>,
        /// The command that installs a newer one, where the distribution is known and has it.
        install: Option<&'static str>,
    },
    /// `AppArmor` denies it user namespaces, as on Ubuntu from 23.10 on.
    AppArmor,
    /// The kernel gives user namespaces to root alone: `kernel.unprivileged_userns_clone` is 0.
    NamespacesForRoot,
    /// The kernel gives user namespaces to nobody: `user.max_user_namespaces` is 0.
    NoNamespaces,
    /// The kernel takes no filters of system calls.
    NoSeccomp,
    /// It did not work for another reason.
    Failed {
        /// What bubblewrap said.
        said: String,
    },
}

impl Support {
    /// The bubblewrap to use.
    ///
    /// # Errors
    /// [`Code::JailUnavailable`], whose hint says how to mend it.
    pub fn jail(&self) -> Result<Bwrap> {
        match (&self.obstacle, &self.bwrap) {
            (None, Some(bwrap)) => Ok(bwrap.clone()),
            (Some(obstacle), bwrap) => Err(obstacle.error(bwrap.as_ref())),
            (None, None) => Err(Obstacle::Missing { install: None }.error(None)),
        }
    }
}

impl Obstacle {
    fn error(&self, bwrap: Option<&Bwrap>) -> Error {
        let program = bwrap.map_or_else(|| "bwrap".to_owned(), |bwrap| bwrap.path.display().to_string());
        let version = bwrap.map(|bwrap| bwrap.version.as_str()).filter(|version| !version.is_empty());
        let (message, hint) = match self {
            Self::Missing { install } => {
                ("bubblewrap, which makes the jail, is not installed".to_owned(), by(*install))
            }
            Self::TooOld { lacks, install } => (
                format!(
                    "{program}{} does not know {}",
                    version.map(|version| format!(" (version {version})")).unwrap_or_default(),
                    lacks.join(", "),
                ),
                format!(
                    "bubblewrap 0.11 does, and so do distributions' fixed packages of 0.8 to 0.10: {}",
                    by(*install)
                ),
            ),
            Self::AppArmor => {
                (format!("AppArmor does not let {program} make user namespaces"), apparmor_mend(&program))
            }
            Self::NamespacesForRoot => (
                "the kernel lets only root make user namespaces: kernel.unprivileged_userns_clone is 0".to_owned(),
                sysctl_mend("kernel.unprivileged_userns_clone=1"),
            ),
            Self::NoNamespaces => (
                "the kernel makes no user namespaces: user.max_user_namespaces is 0".to_owned(),
                sysctl_mend("user.max_user_namespaces=15000"),
            ),
            Self::NoSeccomp => (
                "the kernel takes no filters of system calls".to_owned(),
                "a kernel with CONFIG_SECCOMP_FILTER is needed, as all distributions have".to_owned(),
            ),
            Self::Failed { said } => (
                format!("{program} cannot make a jail here: {said}"),
                format!(
                    "try `{program} --unshare-all --ro-bind / / --proc /proc --dev /dev true`; within a container, \
                     the container's own rules have to allow user namespaces and a /proc of one's own"
                ),
            ),
        };
        Error::new(Code::JailUnavailable, message).hint(hint)
    }
}

fn by(install: Option<&str>) -> String {
    install.unwrap_or("install your distribution's package `bubblewrap`").to_owned()
}

/// Sets it now and for good.
fn sysctl_mend(setting: &str) -> String {
    format!("echo {setting} | sudo tee /etc/sysctl.d/60-user-namespaces.conf && sudo sysctl --system")
}

/// A profile that says no more than that this program may make user namespaces, as distributions' own ones do.
fn apparmor_mend(program: &str) -> String {
    let mut mend = "allow it, and load the permission:\n".to_owned();
    let _ = write!(
        mend,
        "sudo tee /etc/apparmor.d/bwrap <<'END'\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile bwrap {program} flags=(unconfined) {{\n  \
           userns,\n  \
           include if exists <local/bwrap>\n\
         }}\n\
         END\n\
         sudo apparmor_parser -r /etc/apparmor.d/bwrap"
    );
    mend
}
