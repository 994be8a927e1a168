//! Memory: a bound on all of a jail together, by a control group that systemd makes for it.
//!
//! Optional: where no systemd can be asked, or may not bound memory, there is none. Everywhere, what runs in a jail is
//! what the kernel ends first when the machine's memory runs out ([`FIRST_TO_GO`]).

mod bus;
mod group;
mod scope;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::bus::Bus;
pub use self::group::Group;
use self::group::{ROOT, bytes_of};
use self::scope::Scope;

/// `oom_score_adj` of all that runs in a jail: the kernel ends it before anything that does not ask for the same.
pub(crate) const FIRST_TO_GO: &str = "1000";

/// How long systemd may take to answer a user who waits for the jail.
const PATIENCE: Duration = Duration::from_millis(300);

/// Bounds are whole mebibytes, which are whole pages everywhere.
const MEBIBYTE: u64 = 1 << 20;

/// How much memory all of a jail may take together, in bytes, and who is to see to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBound {
    /// Memory.
    pub ram: u64,
    /// Swap space besides.
    pub swap: u64,
    /// Where systemd may answer, in the order in which they are tried; without any there is no bound.
    pub buses: Vec<Bus>,
    /// How long systemd may take; it is not waited for longer.
    pub patience: Duration,
}

impl MemoryBound {
    /// Three quarters of what this machine has of each, so that a jail can work with large projects and the desktop goes
    /// on beside it. None where the kernel does not say what there is.
    pub fn of_this_machine(buses: Vec<Bus>) -> Option<Self> {
        Self::of(&std::fs::read_to_string("/proc/meminfo").ok()?, buses)
    }

    fn of(meminfo: &str, buses: Vec<Bus>) -> Option<Self> {
        let most = |name: &str| Some(bytes_of(meminfo, name)? / 4 * 3 / MEBIBYTE * MEBIBYTE);
        let ram = most("MemTotal:").filter(|ram| *ram > 0)?;
        Some(Self { ram, swap: most("SwapTotal:").unwrap_or_default(), buses, patience: PATIENCE })
    }
}

/// Why the memory of a jail is not bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unbounded {
    /// There is no bus at which systemd could be asked.
    NoBus,
    /// It did not answer in time.
    NoAnswer,
    /// It did not do as it was asked.
    Refused {
        /// What it said.
        said: String,
    },
    /// It made a control group that does not bound memory.
    NoController,
}

impl Display for Unbounded {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus => to.write_str("there is no bus at which systemd could be asked for a control group"),
            Self::NoAnswer => write!(to, "systemd did not answer within {} ms", PATIENCE.as_millis()),
            Self::Refused { said } => write!(to, "systemd gives it no control group: {said}"),
            Self::NoController => to.write_str("the control group that systemd gave it does not bound memory"),
        }
    }
}

impl Unbounded {
    /// What mends it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::NoBus => {
                "systemd has to run your session, and `XDG_RUNTIME_DIR` to be set: `systemctl --user status` says \
                 whether it does"
            }
            Self::NoAnswer | Self::Refused { .. } => "systemctl --user status",
            Self::NoController => {
                "control groups of version 2 are needed, with the memory controller delegated to you: boot with \
                 `systemd.unified_cgroup_hierarchy=1`; `systemctl show user@$UID -p DelegateControllers` has to name \
                 `memory`"
            }
        }
    }
}

/// Tries it out on a process that does nothing, which is ended again. The bound, in bytes.
pub(crate) fn trial(bound: &MemoryBound, programs: &OsStr) -> Result<u64, Unbounded> {
    let bounding = Bounding::begin(bound, 1)?;
    let mut command = Command::new("cat");
    command.env_clear().env("PATH", programs).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Unbounded::Refused { said: format!("cat: {error}") })?;
    let bounded = bounding.with(vec![child.id()]).finish();
    // It ends with its input.
    drop(child.stdin.take());
    let _ = child.wait();
    bounded.map(|_| bound.ram)
}

/// A control group that is being made, while the jail is.
pub(crate) struct Bounding {
    unit: String,
    bound: MemoryBound,
    processes: oneshot::Sender<Vec<u32>>,
    outcome: Receiver<Result<(), Unbounded>>,
}

impl Bounding {
    /// Goes to systemd, at the first bus of the bound where it can be asked.
    pub(crate) fn begin(bound: &MemoryBound, tasks: u64) -> Result<Self, Unbounded> {
        if bound.buses.is_empty() {
            return Err(Unbounded::NoBus);
        }
        let failed = |error: io::Error| Unbounded::Refused { said: error.to_string() };
        let unit = name().map_err(failed)?;
        let scope = Scope { name: unit.clone(), ram: bound.ram, swap: bound.swap, tasks };
        let (processes, known) = oneshot::channel();
        let (told, outcome) = mpsc::sync_channel(1);
        let MemoryBound { buses, patience, .. } = bound.clone();
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let asked =
                runtime.map_err(failed).and_then(|runtime| runtime.block_on(bus::ask(&buses, patience, &scope, known)));
            // Who does not wait any longer goes on without.
            let _ = told.send(asked);
        };
        std::thread::Builder::new().name("scope".to_owned()).spawn(ask).map_err(failed)?;
        Ok(Self { unit, bound: bound.clone(), processes, outcome })
    }

    /// Says which processes are to be in it, once these exist.
    pub(crate) fn with(self, processes: Vec<u32>) -> Joining {
        // Where nobody takes them, the outcome says why.
        let _ = self.processes.send(processes.clone());
        Joining { unit: self.unit, bound: self.bound, processes, outcome: self.outcome }
    }
}

/// Processes on their way into a control group.
pub(crate) struct Joining {
    unit: String,
    bound: MemoryBound,
    processes: Vec<u32>,
    outcome: Receiver<Result<(), Unbounded>>,
}

impl Joining {
    /// Waits until they are in it. What systemd says is not taken for granted: the kernel is asked.
    pub(crate) fn finish(self) -> Result<Group, Unbounded> {
        self.outcome.recv_timeout(self.bound.patience).map_err(|_| Unbounded::NoAnswer)??;
        let mut found = None;
        for process in &self.processes {
            let group = Group::of(ROOT.as_ref(), *process).ok_or(Unbounded::NoController)?;
            if group.name() != Some(self.unit.as_ref()) {
                return Err(Unbounded::NoController);
            }
            found = Some(group);
        }
        found.filter(|group| group.limit() == Some(self.bound.ram)).ok_or(Unbounded::NoController)
    }
}

/// Bytes as people read them.
pub fn gib(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        whole => format!("{whole}.{} GiB", ((bytes % (1 << 30)) * 10) >> 30),
    }
}

/// The name of a scope, which nobody else has.
fn name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("corral-jail-{:016x}.scope", u64::from_ne_bytes(random)))
}

/// Where systemd may answer to this user, by the variables of the environment that say so.
pub fn buses(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Vec<Bus> {
    let session = variable("DBUS_SESSION_BUS_ADDRESS").and_then(|address| Bus::of(address.to_str()?));
    let usual = || Some(Bus::Path(PathBuf::from(variable("XDG_RUNTIME_DIR")?).join("bus")));
    let system = is_root.then(|| Bus::Path("/run/dbus/system_bus_socket".into()));
    let all = session.or_else(usual).into_iter().chain(system);
    all.filter(Bus::is_there).collect()
}
