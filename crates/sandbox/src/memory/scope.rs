//! What systemd is asked for, as data.

use zbus::zvariant::Value;

/// A transient scope: a control group for processes that run already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Ends in `.scope`.
    pub(super) name: String,
    /// The most memory, in bytes.
    pub(super) ram: u64,
    /// The most swap space, in bytes.
    pub(super) swap: u64,
    /// The most processes and threads.
    pub(super) tasks: u64,
}

/// A property that systemd knows for scopes from version 253 on, and refuses before.
const NEWER: &str = "OOMPolicy";

pub(super) type Property = (&'static str, Value<'static>);

impl Scope {
    /// Its properties. `is_old`: systemd is older than 253.
    pub(super) fn properties(&self, processes: &[u32], is_old: bool) -> Vec<Property> {
        let mut all: Vec<Property> = vec![
            ("Description", "A jail of Corral's".into()),
            ("PIDs", processes.to_vec().into()),
            ("MemoryMax", self.ram.into()),
            ("MemorySwapMax", self.swap.into()),
            ("TasksMax", self.tasks.into()),
            // Nothing is kept of it when its last process has ended, however that was.
            ("CollectMode", "inactive-or-failed".into()),
        ];
        if !is_old {
            // The kernel ends what takes too much; the rest of the jail goes on.
            all.push((NEWER, "continue".into()));
        }
        all
    }
}

/// Whether systemd is too old for one of the properties.
pub(super) fn is_too_old(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(_, Some(said), _) if said.contains(NEWER))
}
