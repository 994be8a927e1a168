//! Whose a process is: its program, its user, its container, and the model that it serves.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corral_core::gpu::GpuDevice;
use corral_core::launch::INSTANCE_VARIABLE;
use corral_core::{InstanceId, ModelId};

use crate::files::{name, text};
use crate::roots::Roots;

/// Ancestors are looked at this far up: a wrapper or two lie between a server and what was started.
const ANCESTORS: usize = 8;

/// Servers of Corral's, and the model of each.
pub(crate) type Servers = Vec<(InstanceId, ModelId)>;

/// What is known of processes, until they end.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    known: HashMap<u32, (u64, Owner)>,
    users: HashMap<u32, Option<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Owner {
    name: Option<String>,
    user: Option<String>,
    container: Option<String>,
    /// The server of Corral's that it is, or belongs to, as a child process.
    instance: Option<String>,
}

impl Owners {
    /// Says of each process whose it is, and puts the largest first.
    pub(crate) fn tell(&mut self, roots: &Roots, devices: &mut [GpuDevice], servers: &Servers) {
        let mut still = HashMap::new();
        for process in devices.iter_mut().flat_map(|device| &mut device.processes) {
            let Some(owner) = self.owner(roots, process.pid) else { continue };
            let is_of = |id: &InstanceId| [&owner.1.container, &owner.1.instance].contains(&&Some(id.0.clone()));
            process.model = servers.iter().find(|(id, _)| is_of(id)).map(|(_, model)| model.clone());
            let Owner { name, user, container, .. } = owner.1.clone();
            (process.name, process.user, process.container) = (name, user, container);
            still.insert(process.pid, owner);
        }
        // Ids are used again.
        self.known = still;
        for device in devices {
            device.processes.sort_by_key(|process| (std::cmp::Reverse(process.mem_bytes), process.pid));
        }
    }

    /// A process with the time of its start; none where it cannot be seen.
    fn owner(&mut self, roots: &Roots, pid: u32) -> Option<(u64, Owner)> {
        let folder = roots.proc.join(pid.to_string());
        let (started, _) = stat(&folder)?;
        if let Some((_, owner)) = self.known.get(&pid).filter(|(then, _)| *then == started) {
            return Some((started, owner.clone()));
        }
        let uid = fs::metadata(&folder).ok().map(|meta| meta.uid());
        let owner = Owner {
            name: program(&folder),
            user: uid.map(|uid| self.user(roots, uid)),
            container: text(&folder.join("cgroup")).and_then(|cgroups| container(&cgroups)),
            instance: instance(roots, pid),
        };
        Some((started, owner))
    }

    /// A user's name; the number where there is none.
    fn user(&mut self, roots: &Roots, uid: u32) -> String {
        let look = || {
            let passwd = fs::read_to_string(&roots.passwd).ok()?;
            let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
            users.find(|user| user.get(2).and_then(|id| id.parse().ok()) == Some(uid)).map(|user| user[0].to_owned())
        };
        self.users.entry(uid).or_insert_with(look).clone().unwrap_or_else(|| uid.to_string())
    }
}

/// When a process began, in ticks, and its parent.
fn stat(folder: &Path) -> Option<(u64, u32)> {
    let stat = text(&folder.join("stat"))?;
    // The name of the program stands in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(19)?.parse().ok()?, fields.get(1)?.parse().ok()?))
}

/// Its program: the file where that can be seen, else what it was called with, else its name.
fn program(folder: &Path) -> Option<String> {
    if let Ok(file) = fs::read_link(folder.join("exe")) {
        return Some(file.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
    }
    let command = fs::read(folder.join("cmdline")).unwrap_or_default();
    let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
    // Some programs write their whole state there.
    let called = Some(first).filter(|first| first.starts_with(b"/") && !first.contains(&b' '));
    called
        .map(|path| Path::new(OsStr::from_bytes(path)).to_string_lossy().into_owned())
        .or_else(|| text(&folder.join("comm")))
}

/// The container that a process is in, as its control groups tell: an id of 64 hexadecimal digits, in whatever engine's
/// way (`/docker/ID`, `docker-ID.scope`, `libpod-ID.scope`), of version 1 or 2.
fn container(cgroups: &str) -> Option<String> {
    let of_path = |path: &str| {
        // The innermost one is what the process is in.
        path.rsplit('/').find_map(|part| {
            let id = part.trim_end_matches(".scope").rsplit(['-', ':']).next()?;
            (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
        })
    };
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(of_path)
}

/// The server that a process belongs to: what Corral starts bears its mark, and so does what that starts.
fn instance(roots: &Roots, pid: u32) -> Option<String> {
    let mark = format!("{INSTANCE_VARIABLE}=");
    let mut at = pid;
    for _ in 0..ANCESTORS {
        let folder = roots.proc.join(at.to_string());
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(mark.as_bytes()));
        if let Some(id) = marked {
            return Some(String::from_utf8_lossy(id).into_owned());
        }
        at = stat(&folder)?.1;
        if at <= 1 || name(&folder).is_empty() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f31c2d4a9b00a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123";

    #[test]
    fn a_container_is_known_by_its_control_group() {
        for text in [
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("0::/docker/{ID}"),
            format!("12:memory:/docker/{ID}\n11:cpu:/docker/{ID}\n0::/system.slice/containerd.service"),
            format!("0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope/init"),
            format!("0::/machine.slice/libpod-{ID}.scope/container"),
            format!("0::/kubepods/besteffort/pod1/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(container(&text).as_deref(), Some(ID), "{text}");
        }
        let nested = format!("0::/docker/{}/docker/{ID}", ID.replace('8', "9"));
        assert_eq!(container(&nested).as_deref(), Some(ID), "the inner one");
        for text in ["0::/user.slice/user-1000.slice/session-2.scope", "0::/docker/8f31c2d4", "", "nonsense"] {
            assert_eq!(container(text), None, "{text}");
        }
    }

    #[test]
    fn a_start_and_a_parent_are_found_behind_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        fs::write(dir.path().join("stat"), format!("7 (a) R 1 (x)) {}", fields.join(" "))).unwrap();
        assert_eq!(stat(dir.path()), Some((22, 4)));
    }
}
