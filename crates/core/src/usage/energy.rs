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

    /// So many joules, to the nearest; less than none is none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    pub fn of_joules(joules: f64) -> Self {
        Self((joules * 1e3).round() as u64)
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
    /// How often it had been said what was taken.
    taken: u64,
}

/// Shares out what was taken among the requests that are with the model: what was taken between two readings goes to those
/// that ran meanwhile, in equal parts. What the GPUs take while they idle is in it as long as a request runs.
#[derive(Debug, Clone, Default)]
pub struct EnergyShares {
    running: u32,
    /// What a request has taken that runs since the beginning, in millijoules.
    each: f64,
    /// How often it is unknown what was taken meanwhile.
    gaps: u64,
    /// How often it was said what was taken.
    taken: u64,
}

impl EnergyShares {
    /// Number of requests that share.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Takes what was taken since the last time, or none where that is not known.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of equal parts needs no more digits")]
    pub fn take(&mut self, taken: Option<Millijoules>) {
        self.taken += 1;
        match taken {
            _ if self.running == 0 => {}
            Some(taken) => self.each += taken.0 as f64 / f64::from(self.running),
            None => self.gaps += 1,
        }
    }

    /// A request begins now.
    pub fn begin(&mut self) -> Share {
        self.running += 1;
        Share { from: self.each, gaps: self.gaps, taken: self.taken }
    }

    /// A request ends now: what it took, where all of that is known. Of one that was shorter than the time between two
    /// readings nothing is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the sum only grows, and no request takes 10^16 J"
    )]
    pub fn end(&mut self, share: Share) -> Option<Millijoules> {
        self.running = self.running.saturating_sub(1);
        let known = share.gaps == self.gaps && share.taken != self.taken;
        known.then(|| Millijoules((self.each - share.from).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as a counter tells it")]
    fn taken(millijoules: u64) -> Option<Millijoules> {
        Some(Millijoules(millijoules))
    }

    #[test]
    fn what_is_taken_while_several_run_is_shared() {
        let mut shares = EnergyShares::default();
        let first = shares.begin();
        shares.take(taken(600));
        let second = shares.begin();
        shares.take(taken(400));
        shares.take(taken(600));
        assert_eq!(shares.end(first), taken(600 + 500));
        assert_eq!(shares.running(), 1);
        shares.take(taken(100));
        assert_eq!(shares.end(second), taken(500 + 100));
        // What is taken while none runs is nobody's.
        shares.take(taken(9_000));
        let third = shares.begin();
        shares.take(taken(1));
        assert_eq!(shares.end(third), taken(1));
    }

    #[test]
    fn every_millijoule_is_somebodys() {
        let mut shares = EnergyShares::default();
        let (mut open, mut given, mut all) = (vec![shares.begin()], 0, 0);
        for step in 0..300_u64 {
            let more = step * 7 % 1_013;
            all += if open.is_empty() { 0 } else { more };
            shares.take(taken(more));
            if step % 3 < 2 && step < 250 {
                open.push(shares.begin());
            } else if let Some(share) = open.pop() {
                given += shares.end(share).unwrap().0;
            }
        }
        given += open.into_iter().map(|share| shares.end(share).unwrap().0).sum::<u64>();
        assert!(given.abs_diff(all) <= 300, "{given} of {all}");
    }

    #[test]
    fn a_gap_is_told_as_unknown_and_only_to_those_it_concerns() {
        let mut shares = EnergyShares::default();
        shares.take(None);
        let across = shares.begin();
        shares.take(taken(5));
        shares.take(None);
        let after = shares.begin();
        shares.take(taken(100));
        assert_eq!((shares.end(across), shares.end(after)), (None, taken(50)));
        let between = shares.begin();
        assert_eq!(shares.end(between), None);
    }
}
