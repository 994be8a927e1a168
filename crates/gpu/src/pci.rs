//! The graphics cards on the PCI bus, and whether they sleep.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_core::gpu::{GpuDevice, GpuPcie, GpuState};

use crate::files::{entries, name, number, text};
use crate::roots::Roots;

/// How often it is looked for cards that came or went.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(crate) const NVIDIA: &str = "0x10de";
pub(crate) const AMD: &str = "0x1002";
pub(crate) const INTEL: &str = "0x8086";

/// A card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// For instance `0000:01:00.0`.
    pub(crate) address: String,
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its vendor, for instance `0x10de`.
    pub(crate) vendor: String,
    /// What people call it.
    pub(crate) name: String,
}

impl Card {
    /// The kernel's driver for it.
    pub(crate) fn driver(&self) -> Option<String> {
        Some(name(&fs::read_link(self.path.join("driver")).ok()?).to_owned())
    }

    /// Whether it is switched off.
    pub(crate) fn sleeps(&self) -> bool {
        text(&self.path.join("power/runtime_status")).is_some_and(|status| status.starts_with("suspend"))
    }

    /// Whether it sleeps when nobody uses it. One that is part of the processor does not count.
    pub(crate) fn may_sleep(&self) -> bool {
        !self.is_integrated() && text(&self.path.join("power/control")).is_some_and(|control| control == "auto")
    }

    fn is_integrated(&self) -> bool {
        self.address.split(':').nth(1) == Some("00")
    }

    /// A device that sleeps, known by this name.
    pub(crate) fn asleep(&self) -> GpuDevice {
        GpuDevice {
            uuid: self.address.clone(),
            name: self.name.clone(),
            pci: Some(self.address.clone()),
            state: GpuState::Asleep,
            reason: Some("it sleeps to save power, and is not woken for a look".to_owned()),
            ..GpuDevice::default()
        }
    }

    /// How it is tied to the machine.
    pub(crate) fn link(&self) -> GpuPcie {
        // "16.0 GT/s PCIe"; each generation is twice as fast as the one before, from 2.5 on.
        let generation =
            |file: &str| match text(&self.path.join(file))?.split_whitespace().next()?.parse::<f64>().ok()? {
                speed if speed < 4.0 => Some(1),
                speed if speed < 6.0 => Some(2),
                speed if speed < 12.0 => Some(3),
                speed if speed < 24.0 => Some(4),
                speed if speed < 48.0 => Some(5),
                _ => Some(6),
            };
        GpuPcie {
            generation: generation("current_link_speed"),
            max_generation: generation("max_link_speed"),
            width: number(&self.path.join("current_link_width")),
            max_width: number(&self.path.join("max_link_width")),
            ..GpuPcie::default()
        }
    }
}

/// The cards of the machine, looked for now and then.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    cards: Vec<Card>,
    looked_at: Option<Duration>,
}

impl Bus {
    /// The cards, in the order of their addresses.
    pub(crate) fn cards(&mut self, roots: &Roots, now: Duration) -> &[Card] {
        let gone = self.cards.iter().any(|card| !card.path.exists());
        if gone || self.looked_at.is_none_or(|then| now.saturating_sub(then) >= LOOK_AGAIN) {
            self.looked_at = Some(now);
            let found = entries(&roots.sys.join("bus/pci/devices"));
            self.cards = found.iter().filter_map(|path| card(path, roots, &self.cards)).collect();
        }
        &self.cards
    }
}

/// The card in a folder, where it is one.
fn card(path: &Path, roots: &Roots, known: &[Card]) -> Option<Card> {
    let vendor = text(&path.join("vendor"))?;
    let ours = [NVIDIA, AMD, INTEL].contains(&vendor.as_str());
    // Class 03 is a display's, 12 an accelerator's without one, of which AMD has some.
    let class = text(&path.join("class"))?;
    if !ours || !(class.starts_with("0x03") || (class.starts_with("0x12") && vendor == AMD)) {
        return None;
    }
    let address = name(path).to_owned();
    let name = match known.iter().find(|card| card.address == address) {
        Some(card) => card.name.clone(),
        None => card_name(path, &vendor, roots),
    };
    Some(Card { address, path: path.to_owned(), vendor, name })
}

/// What people call a card: by its own word, by the list that distributions keep, or by its numbers.
fn card_name(path: &Path, vendor: &str, roots: &Roots) -> String {
    let maker = match vendor {
        NVIDIA => "NVIDIA",
        AMD => "AMD",
        _ => "Intel",
    };
    let device = text(&path.join("device")).unwrap_or_default();
    let listed = || {
        let list = fs::read(&roots.pci_ids).ok()?;
        listed_name(&String::from_utf8_lossy(&list), vendor.trim_start_matches("0x"), device.trim_start_matches("0x"))
    };
    match text(&path.join("product_name")).or_else(listed) {
        Some(name) if name.starts_with(maker) => name,
        Some(name) => format!("{maker} {name}"),
        None => format!("{maker} GPU {}", device.trim_start_matches("0x")),
    }
}

/// The name of a device in the list: a line for each vendor, below it a line for each device, further in.
fn listed_name(list: &str, vendor: &str, device: &str) -> Option<String> {
    let of_vendor =
        list.lines().skip_while(|line| !line.strip_prefix(vendor).is_some_and(|rest| rest.starts_with(' ')));
    let mut devices = of_vendor.skip(1).take_while(|line| line.starts_with('\t') || line.starts_with('#'));
    let name = devices.find_map(|line| line.strip_prefix('\t')?.strip_prefix(device)?.strip_prefix("  "))?;
    // "Navi 31 [Radeon RX 7900 XT/7900 XTX]": people know what stands in the brackets.
    let known = name.rsplit_once('[').and_then(|(_, known)| known.strip_suffix(']'));
    Some(known.unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_the_list() {
        let list = "# a list\n1002  AMD\n\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX]\n\t\t1002 0e3b  RX 7900 GRE\n\
                    1003  Other\n\t744d  Wrong\n8086  Intel\n\t56a0  DG2 [Arc A770]\n\t46a6  Alder Lake-P\n";
        let name = |vendor, device| listed_name(list, vendor, device);
        assert_eq!(name("1002", "744c").as_deref(), Some("Radeon RX 7900 XT/7900 XTX"));
        assert_eq!(name("8086", "46a6").as_deref(), Some("Alder Lake-P"));
        assert_eq!(name("1002", "744d"), None, "another vendor's");
        assert_eq!(name("9999", "744c"), None);
    }
}
