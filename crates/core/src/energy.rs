//! How much energy GPUs took from one reading of them to the next, out of what they told. Pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::usage::Millijoules;

/// Power that was read further apart says nothing of the time in between.
const GAP: Duration = Duration::from_mins(1);

/// What a GPU told at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Draw {
    /// Energy taken so far, in millijoules: a counter that begins anew with the driver.
    pub energy_mj: Option<u64>,
    /// Watts drawn.
    pub power_w: Option<f64>,
}

impl Draw {
    /// Whether anything can be made of it.
    pub fn tells(self) -> bool {
        self.energy_mj.is_some() || self.power_w.is_some()
    }

    /// What was taken in this time, at whose end the GPU told this other. Its own counter says so where it has one; else the
    /// power, as if it had changed evenly.
    pub fn taken(self, time: Duration, then: Self) -> Option<Millijoules> {
        // A counter that has fallen back belongs to another life of the driver.
        if let Some(taken) = self.energy_mj.zip(then.energy_mj).and_then(|(from, to)| to.checked_sub(from)) {
            return Some(Millijoules(taken));
        }
        let watts = self.power_w.zip(then.power_w).map(|(from, to)| f64::midpoint(from, to));
        watts.filter(|_| time <= GAP).map(|watts| Millijoules::of_joules(watts * time.as_secs_f64()))
    }
}

/// Keeps what GPUs told last, and so knows what they took since.
#[derive(Debug, Default)]
pub struct EnergyMeter {
    /// When, and what each of them told.
    last: Option<(Duration, HashMap<String, Draw>)>,
}

impl EnergyMeter {
    /// Takes what each of the GPUs told, by its name, at a time since some moment in the past by a clock that never jumps.
    /// What they took together since the reading before; none where that is not known of one of them, or there is none.
    pub fn take(&mut self, at: Duration, told: HashMap<String, Draw>) -> Option<Millijoules> {
        let taken = self.last.as_ref().and_then(|(before, last)| {
            let time = at.checked_sub(*before)?;
            let taken = told.iter().map(|(gpu, draw)| last.get(gpu)?.taken(time, *draw));
            taken.reduce(|sum, more| Some(Millijoules(sum?.0.saturating_add(more?.0)))).flatten()
        });
        self.last = Some((at, told));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(energy_mj: u64) -> Draw {
        Draw { energy_mj: Some(energy_mj), power_w: None }
    }

    fn power(watts: f64) -> Draw {
        Draw { energy_mj: None, power_w: Some(watts) }
    }

    /// What was taken at each reading: a second, and what GPUs told then.
    fn taken(readings: &[(u64, &[(&str, Draw)])]) -> Vec<Option<u64>> {
        let mut meter = EnergyMeter::default();
        let take = |(second, told): &(u64, &[(&str, Draw)])| {
            let told = told.iter().map(|(gpu, draw)| ((*gpu).to_owned(), *draw)).collect();
            meter.take(Duration::from_secs(*second), told).map(|taken| taken.0)
        };
        readings.iter().map(take).collect()
    }

    #[test]
    fn a_counter_tells_to_the_millijoule_however_far_apart_it_is_read() {
        let told = taken(&[
            (10, &[("a", counter(1_000))]),
            (20, &[("a", counter(4_001))]),
            (20, &[("a", counter(4_001))]),
            (9_000, &[("a", counter(104_001))]),
        ]);
        assert_eq!(told, [None, Some(3_001), Some(0), Some(100_000)]);
    }

    #[test]
    fn without_a_counter_the_power_tells_where_it_was_read_often_enough() {
        let told = taken(&[
            (0, &[("a", power(100.0))]),
            (10, &[("a", power(200.0))]),
            (71, &[("a", power(200.0))]),
            (72, &[("a", power(200.0))]),
        ]);
        assert_eq!(told, [None, Some(1_500_000), None, Some(200_000)]);
    }

    #[test]
    fn a_counter_that_begins_anew_is_bridged_by_the_power() {
        let both = |energy| Draw { energy_mj: Some(energy), power_w: Some(50.0) };
        let told = taken(&[(0, &[("a", both(9_000))]), (2, &[("a", both(100))]), (4, &[("a", both(90_100))])]);
        assert_eq!(told, [None, Some(100_000), Some(90_000)]);
        assert_eq!(taken(&[(0, &[("a", counter(9_000))]), (2, &[("a", counter(100))])]), [None, None]);
    }

    #[test]
    fn gpus_are_added_up_and_one_of_which_nothing_is_known_leaves_nothing_known() {
        let told = taken(&[
            (0, &[("a", counter(0)), ("b", power(10.0))]),
            (10, &[("a", counter(5_000)), ("b", power(10.0))]),
            // The model is on one of them only.
            (20, &[("a", counter(6_000))]),
            // It came back, and what it took meanwhile is not known.
            (30, &[("a", counter(7_000)), ("b", power(10.0))]),
            (40, &[("a", counter(8_000)), ("b", Draw::default())]),
            (50, &[]),
            (60, &[("a", counter(9_000))]),
        ]);
        assert_eq!(told, [None, Some(105_000), Some(1_000), None, None, None, None]);
    }
}
