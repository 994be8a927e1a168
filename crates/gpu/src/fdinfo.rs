//! Who uses a GPU, as the kernel's drivers tell for each open device file (`/proc/PID/fdinfo`, keys `drm-*`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::{entries, name};
use crate::roots::Roots;

/// How often all processes are looked through; in between only those that had a device open.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// One user of one device. Files that share it are told once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Client {
    pub(crate) pid: u32,
    /// The device's place on the bus.
    pub(crate) pci: String,
    pub(crate) id: u64,
    /// Memory of the device's own, in bytes.
    pub(crate) memory: Option<u64>,
    /// Memory of the machine's that the device works with (AMD's GTT), in bytes.
    pub(crate) shared: Option<u64>,
    /// For each engine how long it has worked, in nanoseconds.
    pub(crate) busy: BTreeMap<String, u64>,
    /// For each engine how many cycles it has worked, of how many.
    pub(crate) cycles: BTreeMap<String, (u64, u64)>,
}

/// Finds the users of the devices in `/dev/dri`.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    processes: Vec<PathBuf>,
    looked_at: Option<Duration>,
}

impl Clients {
    /// All users that this user may see.
    pub(crate) fn read(&mut self, roots: &Roots, now: Duration) -> Vec<Client> {
        let all = self.looked_at.is_none_or(|then| now.saturating_sub(then) >= LOOK_AGAIN);
        if all {
            self.looked_at = Some(now);
            self.processes = entries(&roots.proc);
            self.processes.retain(|process| name(process).bytes().all(|byte| byte.is_ascii_digit()));
        }
        let mut seen = BTreeSet::new();
        let mut clients = Vec::new();
        self.processes.retain(|process| {
            let of = of_process(process);
            let uses = !of.is_empty();
            clients.extend(of.into_iter().filter(|client| seen.insert((client.pci.clone(), client.id))));
            uses
        });
        clients
    }
}

/// What one process has open.
fn of_process(process: &Path) -> Vec<Client> {
    let Ok(pid) = name(process).parse() else { return Vec::new() };
    let Ok(open) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let of_device =
        open.flatten().filter(|file| fs::read_link(file.path()).is_ok_and(|target| target.starts_with("/dev/dri/")));
    let infos = of_device.filter_map(|file| fs::read_to_string(process.join("fdinfo").join(file.file_name())).ok());
    infos.filter_map(|info| client(pid, &info)).collect()
}

/// One file's information; none where its driver tells none.
fn client(pid: u32, info: &str) -> Option<Client> {
    let (mut client, mut told) = (Client { pid, ..Client::default() }, false);
    let (mut own, mut shared) = (Sums::default(), Sums::default());
    for line in info.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "drm-pdev" => value.clone_into(&mut client.pci),
            "drm-client-id" => {
                client.id = value.parse().ok()?;
                told = true;
            }
            _ => {
                own.add(key, value, |region| region.starts_with("vram") || region.starts_with("local"));
                shared.add(key, value, |region| region == "gtt");
                engine(&mut client, key, value);
            }
        }
    }
    (client.memory, client.shared) = (own.told(), shared.told());
    (told && !client.pci.is_empty()).then_some(client)
}

/// Memory of some regions, as it is told in the three ways that there are.
#[derive(Debug, Default)]
struct Sums {
    resident: Option<u64>,
    memory: Option<u64>,
    total: Option<u64>,
}

impl Sums {
    fn add(&mut self, key: &str, value: &str, is_one: fn(&str) -> bool) {
        let ways =
            [("drm-resident-", &mut self.resident), ("drm-memory-", &mut self.memory), ("drm-total-", &mut self.total)];
        for (start, sum) in ways {
            let region = key.strip_prefix(start).filter(|region| is_one(region));
            if let Some(bytes) = region.and_then(|_| bytes(value)) {
                *sum = Some(sum.unwrap_or(0).saturating_add(bytes));
            }
        }
    }

    fn told(&self) -> Option<u64> {
        self.resident.or(self.memory).or(self.total)
    }
}

fn engine(client: &mut Client, key: &str, value: &str) {
    let count = || value.split_whitespace().next()?.parse::<u64>().ok();
    if let Some(engine) = key.strip_prefix("drm-engine-").filter(|engine| !engine.starts_with("capacity-")) {
        if let Some(nanoseconds) = count() {
            client.busy.insert(engine.to_owned(), nanoseconds);
        }
    } else if let Some(engine) = key.strip_prefix("drm-total-cycles-") {
        if let Some(cycles) = count() {
            client.cycles.entry(engine.to_owned()).or_default().1 = cycles;
        }
    } else if let Some(engine) = key.strip_prefix("drm-cycles-")
        && let Some(cycles) = count()
    {
        client.cycles.entry(engine.to_owned()).or_default().0 = cycles;
    }
}

/// An amount of memory: a number of bytes, or with its unit.
fn bytes(value: &str) -> Option<u64> {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let unit = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_of_several_years_tell_is_understood() {
        let old = "pos:\t0\nflags:\t02100002\ndrm-driver:\tamdgpu\ndrm-client-id:\t42\ndrm-pdev:\t0000:03:00.0\n\
                   drm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t64 KiB\ndrm-engine-gfx:\t1234567 ns\n";
        let told = client(7, old).unwrap();
        assert_eq!((told.pid, told.id, told.pci.as_str(), told.memory), (7, 42, "0000:03:00.0", Some(2 << 20)));
        assert_eq!(told.shared, Some(64 << 10));
        assert_eq!(told.busy, BTreeMap::from([("gfx".to_owned(), 1_234_567)]));
        let xe = "drm-driver:\txe\ndrm-client-id:\t9\ndrm-pdev:\t0000:0a:00.0\ndrm-total-system:\t5 MiB\n\
                  drm-total-vram0:\t12 GiB\ndrm-shared-vram0:\t0\ndrm-resident-vram0:\t11 GiB\n\
                  drm-cycles-ccs:\t500\ndrm-total-cycles-ccs:\t2000\ndrm-engine-capacity-ccs:\t1\n";
        let told = client(7, xe).unwrap();
        assert_eq!(told.memory, Some(11 << 30));
        assert_eq!(told.cycles, BTreeMap::from([("ccs".to_owned(), (500, 2000))]));
        assert!(told.busy.is_empty());
        let integrated = "drm-client-id: 3\ndrm-pdev: 0000:00:02.0\ndrm-resident-system0: 5 MiB\n";
        assert_eq!(client(7, integrated).unwrap().memory, None);
        for none in ["pos: 0\n", "drm-client-id: x\ndrm-pdev: a\n", "drm-client-id: 1\n"] {
            assert_eq!(client(7, none), None, "{none}");
        }
    }
}
