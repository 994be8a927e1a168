//! Figures, their noise, and the bounds that they keep or miss.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use corral_tests::process::family;

/// What must hold, and what of it did not.
#[derive(Default)]
pub(crate) struct Bounds {
    pub(crate) missed: Vec<String>,
}

impl Bounds {
    /// Notes whether a figure keeps its bound, and says it for the figure's row.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, bound: f64, unit: &str) -> String {
        self.note(figure <= bound, &format!("{what} is {figure:.3}{unit}, above {bound:.3}{unit}"));
        Self::verdict(figure <= bound, bound, unit)
    }

    /// The same for a figure that is the better the larger it is.
    pub(crate) fn at_least(&mut self, what: &str, figure: f64, bound: f64, unit: &str) -> String {
        self.note(figure >= bound, &format!("{what} is {figure:.3}{unit}, below {bound:.3}{unit}"));
        Self::verdict(figure >= bound, bound, unit)
    }

    /// Notes what could not even be measured.
    pub(crate) fn miss(&mut self, what: &str) {
        self.note(false, what);
    }

    fn note(&mut self, kept: bool, missed: &str) {
        if !kept {
            self.missed.push(missed.to_owned());
        }
    }

    fn verdict(kept: bool, bound: f64, unit: &str) -> String {
        format!("bound {bound:.2}{unit}: {}", if kept { "kept" } else { "MISSED" })
    }
}

/// Figures of one kind, never none; shown as the median and the quartiles around it.
#[derive(Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Of these.
    pub(crate) fn of(figures: &[f64]) -> Self {
        Self(figures.to_vec())
    }

    /// Adds a figure.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Adds a time, in milliseconds.
    pub(crate) fn push_ms(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// A quartile, between the two nearest figures where it falls between two.
    fn quartile(&self, which: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let quarters = which * (sorted.len() - 1);
        let (below, rest) = (quarters / 4, f64::from(u8::try_from(quarters % 4).unwrap()));
        let above = (below + 1).min(sorted.len() - 1);
        (sorted[below] * (4.0 - rest) + sorted[above] * rest) / 4.0
    }

    /// The median.
    pub(crate) fn median(&self) -> f64 {
        self.quartile(2)
    }

    /// The largest.
    pub(crate) fn worst(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("({:.0}-{:.0})", self.quartile(1), self.quartile(3));
        write!(f, "{:>6.0} {range:<13}", self.median())
    }
}

/// Resident memory of a process in MB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line is there");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// Memory of a process and all that it has started in MB, what is shared with others in equal parts.
pub(crate) fn proportional(pid: u32) -> f64 {
    family(pid).into_iter().map(proportional_alone).sum()
}

/// The same of the process alone; 0 where it has ended.
pub(crate) fn proportional_alone(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

/// What each thread of a process, and of all that it has started, has had of a core so far.
pub(crate) type OnCore = BTreeMap<(u32, std::ffi::OsString), Duration>;

/// That of now.
pub(crate) fn on_core(pid: u32) -> OnCore {
    let mut all = OnCore::new();
    for pid in family(pid) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let told = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanoseconds = told.split_whitespace().next().and_then(|first| first.parse().ok());
            all.insert((pid, task.file_name()), Duration::from_nanos(nanoseconds.unwrap_or_default()));
        }
    }
    all
}

/// What they have had since, in percent of one core. A thread that has ended since is not counted.
pub(crate) fn percent_since(before: &OnCore, pid: u32, window: Duration) -> f64 {
    let since = |(thread, now): (_, Duration)| now.saturating_sub(before.get(&thread).copied().unwrap_or_default());
    let had: Duration = on_core(pid).into_iter().map(since).sum();
    had.as_secs_f64() / window.as_secs_f64() * 1e2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_named_and_a_kept_one_is_not() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.at_most("the memory", 25.0, 25.0, " MB"), "bound 25.00 MB: kept");
        assert_eq!(bounds.at_most("the ratio", 0.951, 0.95, ""), "bound 0.95: MISSED");
        assert_eq!(bounds.at_least("the rate", 0.6, 0.6, ""), "bound 0.60: kept");
        assert_eq!(bounds.at_least("the pace", 0.5, 0.99, ""), "bound 0.99: MISSED");
        assert_eq!(bounds.missed, ["the ratio is 0.951, above 0.950", "the pace is 0.500, below 0.990"]);
    }

    #[test]
    fn quartiles_fall_between_figures() {
        let shown = |list: &[f64]| Series::of(list).to_string();
        assert_eq!(shown(&[40.0, 10.0, 30.0, 20.0, 50.0]).trim_end(), "    30 (20-40)");
        assert_eq!(shown(&[10.0, 30.0]).trim_end(), "    20 (15-25)");
        assert_eq!(shown(&[7.0]).trim_end(), "     7 (7-7)");
    }
}
