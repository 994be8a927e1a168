//! How much energy GPUs took between two instants, out of what they told at others. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Of so many readings of each GPU the energy is kept: an hour of one each second.
const READINGS: usize = 3_600;

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

/// An amount of energy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Joules.
    pub joules: f64,
    /// Whether the GPU's own counter tells; else it is what the power at the readings makes.
    pub counted: bool,
}

/// Keeps what GPUs told, as the energy of each time between two readings. Instants are times since some moment in the
/// past, by a clock that never jumps.
#[derive(Debug, Default)]
pub struct EnergyMeter {
    devices: HashMap<String, Curve>,
}

#[derive(Debug, Default)]
struct Curve {
    last: Option<(Duration, Draw)>,
    spans: VecDeque<Span>,
}

/// The energy of the time between two readings.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Duration,
    to: Duration,
    energy: Energy,
}

impl EnergyMeter {
    /// A meter that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what a GPU told. A reading that is not later than the one before is left out.
    pub fn take(&mut self, uuid: &str, at: Duration, draw: Draw) {
        if !self.devices.contains_key(uuid) {
            self.devices.insert(uuid.to_owned(), Curve::default());
        }
        if let Some(curve) = self.devices.get_mut(uuid) {
            curve.take(at, draw);
        }
    }

    /// What all GPUs together took from one instant to the other. None where that is not known of any of them for all
    /// of that time; a GPU that has told nothing in it, as one that sleeps, counts for nothing.
    pub fn between(&self, from: Duration, to: Duration) -> Option<Energy> {
        let told = self.devices.values().filter(|curve| curve.overlaps(from, to));
        let mut sum: Option<Energy> = None;
        for curve in told {
            let Energy { joules, counted } = curve.between(from, to)?;
            let before = sum.unwrap_or(Energy { joules: 0.0, counted: true });
            sum = Some(Energy { joules: before.joules + joules, counted: before.counted && counted });
        }
        sum
    }

    /// The same of one GPU.
    pub fn of(&self, uuid: &str, from: Duration, to: Duration) -> Option<Energy> {
        self.devices.get(uuid)?.between(from, to)
    }
}

impl Curve {
    fn take(&mut self, at: Duration, draw: Draw) {
        if self.last.is_some_and(|(before, _)| at <= before) {
            return;
        }
        if let Some((from, before)) = self.last.replace((at, draw))
            && let Some(energy) = energy(before, draw, at.saturating_sub(from))
        {
            if self.spans.len() >= READINGS {
                self.spans.pop_front();
            }
            self.spans.push_back(Span { from, to: at, energy });
        }
    }

    fn overlaps(&self, from: Duration, to: Duration) -> bool {
        self.spans.iter().any(|span| span.from < to && from < span.to)
    }

    fn between(&self, from: Duration, to: Duration) -> Option<Energy> {
        let (mut known, mut joules, mut counted) = (from, 0.0, true);
        for span in self.spans.iter().filter(|span| span.to > from) {
            if known >= to || span.from > known {
                break;
            }
            let end = span.to.min(to);
            let share = (end.saturating_sub(known)).as_secs_f64() / (span.to.saturating_sub(span.from)).as_secs_f64();
            joules += span.energy.joules * share;
            counted &= span.energy.counted;
            known = end;
        }
        (known >= to && to > from).then_some(Energy { joules, counted })
    }
}

/// What was taken between two readings that lie so far apart.
#[expect(clippy::cast_precision_loss, reason = "2^53 millijoules are 285 years of a kilowatt")]
fn energy(before: Draw, now: Draw, time: Duration) -> Option<Energy> {
    // A counter that has fallen back belongs to another life of the driver.
    if let Some(taken) = before.energy_mj.zip(now.energy_mj).and_then(|(then, now)| now.checked_sub(then)) {
        return Some(Energy { joules: taken as f64 / 1000.0, counted: true });
    }
    let watts = before.power_w.zip(now.power_w).map(|(then, now)| f64::midpoint(then, now));
    watts.filter(|_| time <= GAP).map(|watts| Energy { joules: watts * time.as_secs_f64(), counted: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn counter(energy_mj: u64) -> Draw {
        Draw { energy_mj: Some(energy_mj), power_w: None }
    }

    fn power(watts: f64) -> Draw {
        Draw { energy_mj: None, power_w: Some(watts) }
    }

    fn meter(readings: &[(u64, Draw)]) -> EnergyMeter {
        let mut meter = EnergyMeter::new();
        for (second, draw) in readings {
            meter.take("a", at(*second), *draw);
        }
        meter
    }

    fn told(meter: &EnergyMeter, from: u64, to: u64) -> Option<(f64, bool)> {
        meter.between(at(from), at(to)).map(|energy| (energy.joules, energy.counted))
    }

    #[test]
    fn a_counter_tells_to_the_millijoule_and_is_shared_out_in_between() {
        let meter = meter(&[(10, counter(1_000)), (20, counter(4_001)), (120, counter(104_001))]);
        assert_eq!(told(&meter, 10, 20), Some((3.001, true)));
        assert_eq!(told(&meter, 20, 120), Some((100.0, true)), "however far apart");
        assert_eq!(told(&meter, 30, 40), Some((10.0, true)));
        for (from, to) in [(9, 20), (20, 121), (15, 15), (16, 15)] {
            assert_eq!(told(&meter, from, to), None, "{from} to {to}");
        }
    }

    #[test]
    fn without_a_counter_the_power_tells_where_it_was_read_often_enough() {
        let meter = meter(&[(0, power(100.0)), (10, power(200.0)), (71, power(200.0)), (72, power(200.0))]);
        assert_eq!(told(&meter, 0, 10), Some((1_500.0, false)));
        assert_eq!(told(&meter, 71, 72), Some((200.0, false)));
        assert_eq!(told(&meter, 0, 72), None, "there is a hole");
        assert_eq!(told(&meter, 30, 31), None);
    }

    #[test]
    fn a_counter_that_begins_anew_is_bridged_by_the_power() {
        let both = |energy| Draw { energy_mj: Some(energy), power_w: Some(50.0) };
        let meter = meter(&[(0, both(9_000)), (2, both(100)), (4, both(90_100))]);
        assert_eq!(told(&meter, 0, 2), Some((100.0, false)));
        assert_eq!(told(&meter, 2, 4), Some((90.0, true)));
        assert_eq!(told(&meter, 0, 4), Some((190.0, false)));
    }

    #[test]
    fn gpus_are_added_up_and_one_that_has_told_nothing_counts_for_nothing() {
        let mut meter = meter(&[(0, counter(0)), (10, counter(5_000))]);
        for (second, draw) in [(0, counter(0)), (10, counter(7_000)), (20, counter(9_000))] {
            meter.take("b", at(second), draw);
        }
        assert_eq!(told(&meter, 0, 10), Some((12.0, true)));
        assert_eq!(told(&meter, 10, 20), Some((2.0, true)), "a is silent");
        assert_eq!(told(&meter, 5, 15), None, "a has told half of it");
        assert_eq!(meter.of("a", at(0), at(10)).map(|energy| energy.joules), Some(5.0));
        assert_eq!(meter.of("c", at(0), at(10)), None);
    }

    #[test]
    fn it_forgets_the_oldest() {
        let mut meter = EnergyMeter::new();
        for second in 0..=4_000 {
            meter.take("a", at(second), counter(second * 1_000));
        }
        assert_eq!(told(&meter, 399, 500), None);
        assert_eq!(told(&meter, 400, 4_000), Some((3_600.0, true)));
    }

    proptest! {
        #[test]
        fn two_halves_are_the_whole(
            steps in proptest::collection::vec((1_u64..50, 0_u64..100_000), 2..40),
            cut in 0.0_f64..1.0,
        ) {
            let (mut meter, mut second, mut energy) = (EnergyMeter::new(), 0, 0);
            meter.take("a", at(0), counter(0));
            for (seconds, taken) in steps {
                (second, energy) = (second + seconds, energy + taken);
                meter.take("a", at(second), counter(energy));
            }
            let middle = at(second).mul_f64(cut);
            let whole = meter.between(at(0), at(second)).unwrap().joules;
            let half = |from, to| meter.between(from, to).map_or(0.0, |energy| energy.joules);
            let halves = half(at(0), middle) + half(middle, at(second));
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let taken = energy as f64 / 1_000.0;
            prop_assert!((whole - taken).abs() < 1e-6 && (halves - whole).abs() < 1e-6);
        }
    }
}
