//! Numbers and operations as people read them.

use std::time::Duration;

use corral_core::snapshot::{OperationKind, OperationView, Progress, Step};
use corral_core::{ErrorBody, ModelId};

/// A size in decimal units, for instance `18.3 GB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    // From 999.95 on, one digit behind the point would round up to 1000.0.
    let unit = UNITS.iter().find(|(_, unit)| bytes >= unit - unit / 20_000);
    match unit {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// How long something has taken, in the two largest units: `3.2 s`, `3 min 5 s`, `2 h 4 min`, `3 d 4 h`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u64 holds")]
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", whole % 60),
        (0, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// An amount of energy in watt-hours, the unit of electricity meters: `0.8 Wh`, `1.2 kWh`; less than that in joules.
pub(crate) fn energy(joules: f64) -> String {
    let hours = joules / 3600.0;
    match hours {
        _ if hours >= 999.95 => format!("{:.2} kWh", hours / 1e3),
        _ if hours >= 0.1 => format!("{hours:.1} Wh"),
        _ if joules >= 9.95 => format!("{joules:.0} J"),
        _ => format!("{joules:.1} J"),
    }
}

/// An amount of money, to two digits that say something: `12.30 EUR`, `0.0042 EUR`.
pub(crate) fn money(amount: f64, currency: &str) -> String {
    let digits = [(0.01, 2), (0.000_1, 4)].into_iter().find(|(least, _)| amount >= *least || amount == 0.0);
    let text = format!("{amount:.*}", digits.map_or(6, |(_, digits)| digits));
    format!("{text} {currency}").trim_end().to_owned()
}

/// How long something will take: to a second where it takes ten.
pub(crate) fn about(milliseconds: u64) -> String {
    let seconds = Duration::from_millis(milliseconds).as_secs_f64();
    if (10.0..59.5).contains(&seconds) {
        format!("about {seconds:.0} s")
    } else {
        format!("about {}", duration(seconds))
    }
}

/// A number with its digits in groups: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The share of a whole, for instance `90%`; nothing where there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    // Rounded down: nothing is whole that is not.
    let share = (u128::from(part) * 100).checked_div(u128::from(whole));
    share.map_or_else(String::new, |share| format!("{share}%"))
}

/// The singular or the plural, with the number before it.
pub(crate) fn count(number: usize, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

/// An operation's change, for instance `switch a → b`.
pub(crate) fn change(operation: &OperationView) -> String {
    change_of(operation.kind, operation.from.as_ref(), operation.to.as_ref())
}

/// A change of one kind between two models.
pub(crate) fn change_of(kind: OperationKind, from: Option<&ModelId>, to: Option<&ModelId>) -> String {
    let kind = match kind {
        OperationKind::Start => "start",
        OperationKind::Stop => "stop",
        OperationKind::Switch => "switch",
        OperationKind::Restore => "restore",
        OperationKind::Restart => "restart",
        OperationKind::Unload => "unload",
    };
    match (from, to) {
        (Some(from), Some(to)) if from != to => format!("{kind} {from} → {to}"),
        (_, Some(model)) | (Some(model), None) => format!("{kind} {model}"),
        (None, None) => kind.to_owned(),
    }
}

/// A step in one word.
pub(crate) fn step(step: Step) -> &'static str {
    match step {
        Step::Pull => "pull",
        Step::Prepare => "prepare",
        Step::Drain => "drain",
        Step::Save => "save the conversations",
        Step::Stop => "stop",
        Step::Free => "wait for the GPU's memory",
        Step::Start => "start",
        Step::Load => "load",
        Step::Restore => "bring the conversations back",
        Step::Pause => "wait before the next try",
        Step::Rollback => "roll back",
    }
}

/// How far a step is, for instance `1.2 GB/4.7 GB`.
pub(crate) fn progress(progress: Progress) -> String {
    match progress.total_bytes {
        Some(total) => format!("{}/{}", size(progress.done_bytes), size(total)),
        None => size(progress.done_bytes),
    }
}

/// An error on one line, with its hint behind it.
pub(crate) fn brief(error: &ErrorBody) -> String {
    match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown = [0, 999, 999_949, 999_950, 1_000_000, 18_345_000_000, 2_000_000_000_000].map(size);
        assert_eq!(shown, ["0 B", "999 B", "999.9 kB", "1.0 MB", "1.0 MB", "18.3 GB", "2.0 TB"]);
    }

    #[test]
    fn durations() {
        let shown = [-1.0, 0.04, 59.94, 59.96, 125.0, 3599.6, 7500.0, 97_200.0, f64::NAN].map(duration);
        let expected =
            ["0.0 s", "0.0 s", "59.9 s", "1 min 0 s", "2 min 5 s", "1 h 0 min", "2 h 5 min", "1 d 3 h", "0.0 s"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_to_come_is_about() {
        let shown = [900, 9_940, 12_400, 59_000, 61_000].map(about);
        assert_eq!(shown, ["about 0.9 s", "about 9.9 s", "about 12 s", "about 59 s", "about 1 min 1 s"]);
    }

    #[test]
    fn numbers_and_shares() {
        let shown = [0, 12, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!([percent(0, 0), percent(0, 9), percent(999, 1000), percent(7, 7)], ["", "0%", "99%", "100%"]);
    }

    #[test]
    fn changes() {
        let [a, b] = ["a", "b"].map(|id| ModelId::new(id).unwrap());
        assert_eq!(change_of(OperationKind::Switch, Some(&a), Some(&b)), "switch a → b");
        assert_eq!(change_of(OperationKind::Switch, Some(&a), Some(&a)), "switch a");
        assert_eq!(change_of(OperationKind::Start, None, Some(&b)), "start b");
        assert_eq!(change_of(OperationKind::Stop, Some(&a), None), "stop a");
        assert_eq!(change_of(OperationKind::Stop, None, None), "stop");
    }
}
