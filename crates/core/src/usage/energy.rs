//! What requests take of the GPUs' energy: its parts for each of them.

/// An amount of energy, in the unit of NVML's counter (`nvmlDeviceGetTotalEnergyConsumption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millijoules(pub u64);

impl Millijoules {
    /// In joules.
    #[expect(clippy::cast_precision_loss, reason = "a fraction of a joule is of no interest after 10^13 J")]
    pub fn joules(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

/// Joules in a kilowatt-hour.
pub const JOULES_PER_KWH: f64 = 3.6e6;

/// A request's place among those that share the energy; see [`EnergyShares`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// What each had taken when it began, in millijoules.
    from: f64,
    /// The gaps that there were until then.
    gaps: u64,
}

/// Shares out what a counter of energy says among the requests that are with the model: what was taken between two
/// readings goes to those that ran meanwhile, in equal parts. What the GPUs take while they idle is in it as long as a
/// request runs.
#[derive(Debug, Clone, Default)]
pub struct EnergyShares {
    running: u32,
    last: Option<Millijoules>,
    /// What a request has taken that runs since the beginning, in millijoules.
    each: f64,
    /// How often it is unknown what was taken meanwhile.
    gaps: u64,
}

impl EnergyShares {
    /// Number of requests that share.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Takes a reading of the counter while the same requests run; none where it could not be read.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of equal parts needs no more digits")]
    pub fn read(&mut self, reading: Option<Millijoules>) {
        if self.running > 0 {
            // One that says less than before has begun anew, with the driver.
            match self.last.zip(reading).and_then(|(last, now)| now.0.checked_sub(last.0)) {
                Some(taken) => self.each += taken as f64 / f64::from(self.running),
                None => self.gaps += 1,
            }
        }
        self.last = reading;
    }

    /// A request begins, at this reading.
    pub fn begin(&mut self, reading: Option<Millijoules>) -> Share {
        self.read(reading);
        self.running += 1;
        Share { from: self.each, gaps: self.gaps }
    }

    /// A request ends, at this reading: what it took, where that is known.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the sum only grows, and no request takes 10^16 J"
    )]
    pub fn end(&mut self, share: Share, reading: Option<Millijoules>) -> Option<Millijoules> {
        self.read(reading);
        self.running = self.running.saturating_sub(1);
        let known = share.gaps == self.gaps && reading.is_some();
        known.then(|| Millijoules((self.each - share.from).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as a counter tells it")]
    fn at(millijoules: u64) -> Option<Millijoules> {
        Some(Millijoules(millijoules))
    }

    #[test]
    fn what_is_taken_while_several_run_is_shared() {
        let mut shares = EnergyShares::default();
        let first = shares.begin(at(1_000));
        let second = shares.begin(at(1_600));
        shares.read(at(2_000));
        assert_eq!(shares.end(first, at(2_600)), at(600 + 500));
        assert_eq!(shares.running(), 1);
        assert_eq!(shares.end(second, at(2_700)), at(500 + 100));
        // What is taken while none runs is nobody's.
        let third = shares.begin(at(9_000));
        assert_eq!(shares.end(third, at(9_001)), at(1));
    }

    #[test]
    fn every_millijoule_is_somebodys() {
        let mut shares = EnergyShares::default();
        let (mut open, mut given, mut now) = (Vec::new(), 0, 5);
        for step in 0..300_u64 {
            now += step * 7 % 1_013;
            if step % 3 < 2 && step < 250 {
                open.push(shares.begin(at(now)));
            } else if let Some(share) = open.pop() {
                given += shares.end(share, at(now)).unwrap().0;
            }
        }
        let (from, to) = (5, now);
        while let Some(share) = open.pop() {
            given += shares.end(share, at(now)).unwrap().0;
        }
        assert!(given.abs_diff(to - from) <= 300, "{given} of {}", to - from);
    }

    #[test]
    fn a_gap_is_told_as_unknown_and_only_to_those_it_concerns() {
        for (lost, back) in [(None, at(2_000)), (at(10), at(20))] {
            let mut shares = EnergyShares::default();
            let across = shares.begin(at(1_000));
            shares.read(lost);
            shares.read(back);
            let after = shares.begin(back);
            let end = back.map(|at| Millijoules(at.0 + 100));
            assert_eq!(shares.end(across, end), None);
            assert_eq!(shares.end(after, end), at(50));
        }
        let mut shares = EnergyShares::default();
        let share = shares.begin(None);
        assert_eq!(shares.end(share, None), None);
    }
}
