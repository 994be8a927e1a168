//! Intel's GPUs, through what `i915` and `xe` tell in files, as far as that goes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use corral_core::gpu::{GpuClocks, GpuDevice, GpuProcess, GpuSource, Throttle};

use crate::fdinfo::Client;
use crate::files::{Sensors, entries, name, number};
use crate::pci::Card;

/// Reads Intel's cards; what they did is the difference to the reading before.
#[derive(Debug, Default)]
pub(crate) struct IntelProbe {
    before: HashMap<String, Before>,
}

/// What a card had done when it was last read.
#[derive(Debug)]
struct Before {
    at: Duration,
    energy_mj: Option<u64>,
    clients: HashMap<u64, Client>,
}

impl IntelProbe {
    /// Reads a card that is awake.
    pub(crate) fn read(&mut self, card: &Card, clients: &[Client], now: Duration) -> GpuDevice {
        let clients: Vec<&Client> = clients.iter().filter(|client| client.pci == card.address).collect();
        let sensors = Sensors::read(&card.path);
        let before = self.before.get(&card.address).filter(|before| now > before.at);
        let time = before.map(|before| now.saturating_sub(before.at));
        let watts = || {
            let (then, now) = (before?.energy_mj?, sensors.energy_mj?);
            #[expect(clippy::cast_precision_loss, reason = "so much energy takes no GPU between two readings")]
            let joules = now.checked_sub(then)? as f64 / 1e3;
            Some(joules / time?.as_secs_f64())
        };
        let total = [card.path.join("tile0/physical_vram_size_bytes"), card.path.join("lmem_total_bytes")];
        let total = total.iter().find_map(|path| number::<u64>(path));
        // Only what the processes tell that this user may see.
        let used = clients.iter().filter_map(|client| client.memory).reduce(|sum, more| sum + more);
        let device = GpuDevice {
            uuid: card.address.clone(),
            name: card.name.clone(),
            source: GpuSource::Intel,
            pci: Some(card.address.clone()),
            util_percent: before.zip(time).and_then(|(before, time)| busy(&before.clients, &clients, time)),
            mem_used_bytes: used.filter(|_| total.is_some()),
            mem_total_bytes: total,
            temperature_c: sensors.temperature_c,
            power_w: sensors.power_w.or_else(watts),
            power_limit_w: sensors.power_limit_w,
            energy_mj: sensors.energy_mj,
            fan_percent: sensors.fan_percent,
            clocks: GpuClocks { core_mhz: clock(card), memory_mhz: None },
            pcie: card.link(),
            throttle: throttle(card),
            reason: card
                .driver()
                .is_none()
                .then(|| "it has no driver: neither i915 nor xe is loaded for it".to_owned()),
            processes: processes(&clients),
            ..GpuDevice::default()
        };
        let clients = clients.into_iter().map(|client| (client.id, client.clone())).collect();
        self.before.insert(card.address.clone(), Before { at: now, energy_mj: sensors.energy_mj, clients });
        device
    }
}

fn processes(clients: &[&Client]) -> Vec<GpuProcess> {
    let mut found: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for client in clients {
        let known = found.entry(client.pid).or_default();
        *known = match (*known, client.memory) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
    }
    found.into_iter().map(|(pid, mem_bytes)| GpuProcess { pid, mem_bytes, ..GpuProcess::default() }).collect()
}

/// How busy the busiest engine was, in percent, by all users that were there before.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
fn busy(before: &HashMap<u64, Client>, clients: &[&Client], time: Duration) -> Option<f64> {
    let mut engines: HashMap<&str, f64> = HashMap::new();
    for client in clients {
        let Some(then) = before.get(&client.id) else { continue };
        for (engine, now) in &client.busy {
            let worked = now.saturating_sub(then.busy.get(engine).copied().unwrap_or(*now));
            *engines.entry(engine).or_default() += worked as f64 / time.as_nanos() as f64;
        }
        for (engine, (now, of)) in &client.cycles {
            let (then, of_then) = then.cycles.get(engine).copied().unwrap_or((*now, *of));
            let passed = of.saturating_sub(of_then);
            if passed > 0 {
                *engines.entry(engine).or_default() += now.saturating_sub(then) as f64 / passed as f64;
            }
        }
    }
    let known = clients.is_empty() || !engines.is_empty();
    known.then(|| engines.values().fold(0.0_f64, |most, share| most.max(*share)).min(1.0) * 100.0)
}

/// The folders of its graphics engines: of `xe`, and of `i915`.
fn engines(card: &Card) -> Vec<PathBuf> {
    let minors = entries(&card.path.join("drm")).into_iter().filter(|path| name(path).starts_with("card"));
    let mut folders = entries(&card.path.join("tile0"));
    folders.extend(minors.flat_map(|minor| entries(&minor.join("gt"))));
    folders.retain(|folder| name(folder).starts_with("gt"));
    folders
}

fn clock(card: &Card) -> Option<u32> {
    let engine = engines(card).into_iter().next()?;
    number(&engine.join("freq0/act_freq")).or_else(|| number(&engine.join("rps_act_freq_mhz")))
}

fn throttle(card: &Card) -> Option<Vec<Throttle>> {
    let engine = engines(card).into_iter().next()?;
    let is = |kind: &str| {
        let there = number::<u8>(&engine.join("freq0/throttle").join(format!("reason_{kind}")));
        there.or_else(|| number::<u8>(&engine.join(format!("throttle_reason_{kind}"))))
    };
    number::<u8>(&engine.join("freq0/throttle/status"))
        .or_else(|| number::<u8>(&engine.join("throttle_reason_status")))?;
    let table = [
        (&["pl1", "pl2", "pl4"][..], Throttle::PowerCap),
        (&["thermal", "prochot", "ratl"], Throttle::Thermal),
        (&["vr_thermalert", "vr_tdc"], Throttle::Hardware),
    ];
    let on = |kinds: &[&str]| kinds.iter().any(|kind| is(kind) == Some(1));
    Some(table.into_iter().filter(|(kinds, _)| on(kinds)).map(|(_, reason)| reason).collect())
}
