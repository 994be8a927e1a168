//! What the GPUs did in the last minutes: what was read for somebody is remembered for whoever comes to look.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GpuDevice, GpuReading};

/// How far back is remembered.
const SPAN: SignedDuration = SignedDuration::from_mins(15);

/// So many readings are remembered: one for each second of that time.
const READINGS: usize = 900;

/// What the GPUs did in the last minutes, oldest first, as columns: a number of each reading, null where it was not told.
/// There are no readings of a time in which no model was loaded and nobody looked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuHistory {
    /// When they were read.
    pub at: Vec<Timestamp>,
    /// The GPUs that were there.
    pub devices: Vec<GpuTrack>,
}

/// The numbers of one GPU, one for each time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuTrack {
    /// What tells it from all others.
    pub uuid: String,
    /// Share of the time in which it worked, in percent.
    pub util_percent: Vec<Option<f64>>,
    /// Memory in use, in bytes.
    pub mem_used_bytes: Vec<Option<u64>>,
    /// Degrees Celsius.
    pub temperature_c: Vec<Option<f64>>,
    /// Watts that it drew.
    pub power_w: Vec<Option<f64>>,
}

impl GpuTrack {
    /// Nothing told for so many times.
    fn empty(uuid: &str, times: usize) -> Self {
        Self {
            uuid: uuid.to_owned(),
            util_percent: vec![None; times],
            mem_used_bytes: vec![None; times],
            temperature_c: vec![None; times],
            power_w: vec![None; times],
        }
    }
}

/// The readings of the last 15 minutes, 900 at most, with no more of each than its charts need: some 100 KiB for a GPU.
#[derive(Debug, Default)]
pub struct RecentReadings(VecDeque<Moment>);

#[derive(Debug)]
struct Moment {
    at: Timestamp,
    devices: Box<[Numbers]>,
}

#[derive(Debug)]
struct Numbers {
    /// Shared by all that are of the same GPU.
    uuid: Arc<str>,
    util_percent: Option<f64>,
    mem_used_bytes: Option<u64>,
    temperature_c: Option<f64>,
    power_w: Option<f64>,
}

impl RecentReadings {
    /// Remembers a reading, and forgets what has become too old.
    pub fn take(&mut self, reading: &GpuReading) {
        if reading.devices.is_empty() {
            return;
        }
        // Where the clock was put back, what is yet to come cannot have been.
        while self.0.back().is_some_and(|last| last.at >= reading.at) {
            self.0.pop_back();
        }
        let devices = reading.devices.iter().map(|device| self.numbers(device)).collect();
        self.0.push_back(Moment { at: reading.at, devices });
        while self.0.len() > READINGS || self.0.front().is_some_and(|first| is_old(first, reading.at)) {
            self.0.pop_front();
        }
    }

    /// What is remembered of the last 15 minutes before that time.
    pub fn history(&self, now: Timestamp) -> GpuHistory {
        let moments: Vec<&Moment> = self.0.iter().filter(|moment| !is_old(moment, now)).collect();
        let mut devices: Vec<GpuTrack> = Vec::new();
        for (time, moment) in moments.iter().enumerate() {
            for numbers in &moment.devices {
                let known = devices.iter().position(|track| *track.uuid == *numbers.uuid);
                let place = known.unwrap_or_else(|| {
                    devices.push(GpuTrack::empty(&numbers.uuid, moments.len()));
                    devices.len() - 1
                });
                let track = &mut devices[place];
                track.util_percent[time] = numbers.util_percent;
                track.mem_used_bytes[time] = numbers.mem_used_bytes;
                track.temperature_c[time] = numbers.temperature_c;
                track.power_w[time] = numbers.power_w;
            }
        }
        GpuHistory { at: moments.iter().map(|moment| moment.at).collect(), devices }
    }

    fn numbers(&self, device: &GpuDevice) -> Numbers {
        let before = self.0.back().into_iter().flat_map(|last| &last.devices);
        let known = before.map(|numbers| &numbers.uuid).find(|uuid| ***uuid == *device.uuid);
        Numbers {
            uuid: known.map_or_else(|| Arc::from(device.uuid.as_str()), Arc::clone),
            util_percent: device.util_percent,
            mem_used_bytes: device.mem_used_bytes,
            temperature_c: device.temperature_c,
            power_w: device.power_w,
        }
    }
}

fn is_old(moment: &Moment, now: Timestamp) -> bool {
    now.duration_since(moment.at) > SPAN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(second: i64, devices: &[(&str, f64)]) -> GpuReading {
        let device = |(uuid, percent): &(&str, f64)| GpuDevice {
            uuid: (*uuid).to_owned(),
            util_percent: Some(*percent),
            ..GpuDevice::default()
        };
        GpuReading {
            at: Timestamp::from_second(second).unwrap(),
            source: super::super::GpuSource::Nvml,
            reason: None,
            devices: devices.iter().map(device).collect(),
        }
    }

    fn seconds(history: &GpuHistory) -> Vec<i64> {
        history.at.iter().map(|at| at.as_second()).collect()
    }

    fn history(recent: &RecentReadings, second: i64) -> GpuHistory {
        recent.history(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn each_gpu_has_a_number_for_each_time_and_none_where_it_was_not_there() {
        let mut recent = RecentReadings::default();
        recent.take(&reading(1, &[("a", 10.0)]));
        recent.take(&reading(2, &[("a", 20.0), ("b", 1.0)]));
        recent.take(&reading(3, &[]));
        recent.take(&reading(17, &[("b", 2.0)]));
        let told = history(&recent, 20);
        assert_eq!(seconds(&told), [1, 2, 17], "without GPUs there is nothing to remember");
        let of = |place: usize| (told.devices[place].uuid.as_str(), told.devices[place].util_percent.clone());
        assert_eq!(of(0), ("a", vec![Some(10.0), Some(20.0), None]));
        assert_eq!(of(1), ("b", vec![None, Some(1.0), Some(2.0)]));
        assert_eq!(told.devices[1].power_w, [None, None, None]);
    }

    #[test]
    fn fifteen_minutes_are_remembered_and_no_more_than_so_many_readings() {
        let mut recent = RecentReadings::default();
        for quarter in 0..600 {
            recent.take(&reading(quarter * 15, &[("a", 0.0)]));
        }
        let told = history(&recent, 599 * 15);
        assert_eq!((told.at.len(), told.at[0].as_second()), (61, 599 * 15 - 900));
        assert_eq!(recent.0.len(), 61, "the older ones are gone");
        assert!(history(&recent, 100_000).devices.is_empty(), "what nobody looked at is not told as of now");
        for second in 10_000..12_000 {
            recent.take(&reading(second, &[("a", 0.0), ("b", 0.0)]));
        }
        assert_eq!(recent.0.len(), READINGS);
        let first = &recent.0[0].devices[0].uuid;
        assert!(Arc::ptr_eq(first, &recent.0[READINGS - 1].devices[0].uuid), "a name is kept once");
    }

    #[test]
    fn a_clock_that_is_put_back_leaves_no_times_that_are_to_come() {
        let mut recent = RecentReadings::default();
        for second in [1_000, 1_001, 1_002, 500, 501] {
            recent.take(&reading(second, &[("a", 0.0)]));
        }
        assert_eq!(seconds(&history(&recent, 501)), [500, 501]);
    }
}
