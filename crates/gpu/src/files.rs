//! Small files of the kernel's, with one value each.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use corral_core::energy::Draw;

/// The text of a file, without blanks around it; none where there is none.
pub(crate) fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number in a file.
pub(crate) fn number<T: FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// What a folder holds, in the order of the names; nothing where there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The name that a path ends with.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What the sensors of a device tell (`hwmon`).
#[derive(Debug, Default)]
pub(crate) struct Sensors {
    pub(crate) temperature_c: Option<f64>,
    pub(crate) power_w: Option<f64>,
    pub(crate) power_limit_w: Option<f64>,
    pub(crate) energy_mj: Option<u64>,
    pub(crate) fan_percent: Option<f64>,
    pub(crate) core_mhz: Option<u32>,
    pub(crate) memory_mhz: Option<u32>,
}

impl Sensors {
    /// Reads them, for the folder of a device.
    pub(crate) fn read(device: &Path) -> Self {
        let Some(folder) = sensors(device) else { return Self::default() };
        let Draw { energy_mj, power_w } = draw(&folder);
        let read = |name: &str| number::<f64>(&folder.join(name));
        let first = |names: &[&str]| names.iter().find_map(|name| read(name));
        let mhz = |name: &str| number::<u64>(&folder.join(name)).and_then(|hz| u32::try_from(hz / 1_000_000).ok());
        Self {
            temperature_c: first(&["temp1_input", "temp2_input"]).map(|milli| milli / 1e3),
            power_w,
            power_limit_w: first(&["power1_cap", "power1_max", "power2_max"]).map(|micro| micro / 1e6),
            energy_mj,
            fan_percent: read("pwm1").map(|pwm| pwm / 255.0 * 100.0),
            core_mhz: mhz("freq1_input"),
            memory_mhz: mhz("freq2_input"),
        }
    }
}

/// What a device takes, without its other sensors.
pub(crate) fn taken(device: &Path) -> Draw {
    sensors(device).map(|folder| draw(&folder)).unwrap_or_default()
}

/// The folder of a device's sensors.
fn sensors(device: &Path) -> Option<PathBuf> {
    entries(&device.join("hwmon")).into_iter().next()
}

fn draw(folder: &Path) -> Draw {
    // Of `xe` the first is the card and the second the chip alone, which some cards only tell.
    let power = ["power1_average", "power1_input", "power2_input"];
    let power = power.iter().find_map(|name| number::<f64>(&folder.join(name)));
    let energy = ["energy1_input", "energy2_input"].iter().find_map(|name| number::<u64>(&folder.join(name)));
    Draw { energy_mj: energy.map(|micro| micro / 1_000), power_w: power.map(|micro| micro / 1e6) }
}
