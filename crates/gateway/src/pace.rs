//! How fast tokens come, over the last two seconds: a ring of short spans of time, each with what was generated in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The length of a span, in milliseconds.
const SPAN: u64 = 250;

/// So many whole spans are looked at: two seconds. The one that runs is not over yet.
const LOOKED_AT: u64 = 8;

/// So many spans there are.
const SPANS: usize = 16;

/// Tokens are counted in these parts, since those of an answer in one piece are shared out.
const PARTS: u64 = 1000;

/// Counts without a lock. Each place of the ring holds the number of its span in its upper half and parts of tokens in
/// its lower one.
#[derive(Debug, Default)]
pub(crate) struct Pace([AtomicU64; SPANS]);

impl Pace {
    /// So many tokens have come at this time, which counts from any moment and never jumps.
    pub(crate) fn now(&self, now: Duration, tokens: u64) {
        self.add(number(millis(now)), tokens.saturating_mul(PARTS));
    }

    /// So many tokens came until now, evenly over this time.
    pub(crate) fn since(&self, now: Duration, took: Duration, tokens: u64) {
        let end = millis(now);
        let begin = end.saturating_sub(millis(took).max(1));
        let parts = u128::from(tokens.saturating_mul(PARTS));
        let oldest = number(end).saturating_sub(SPANS as u64 - 1).max(number(begin));
        for span in oldest..=number(end) {
            let (from, to) = ((span * SPAN).max(begin), ((span + 1) * SPAN).min(end));
            let share = parts * u128::from(to.saturating_sub(from)) / u128::from((end - begin).max(1));
            self.add(span, u64::try_from(share).unwrap_or(u64::MAX));
        }
    }

    /// Tokens per second over the last two seconds.
    #[expect(clippy::cast_precision_loss, reason = "nobody generates 2^53 tokens in two seconds")]
    pub(crate) fn per_second(&self, now: Duration) -> f64 {
        let now = number(millis(now));
        let counted = |place: &AtomicU64| {
            let (span, parts) = split(place.load(Ordering::Relaxed));
            if span < now && now - span <= LOOKED_AT { parts } else { 0 }
        };
        let parts: u64 = self.0.iter().map(counted).sum();
        parts as f64 * 1000.0 / (PARTS * LOOKED_AT * SPAN) as f64
    }

    fn add(&self, span: u64, parts: u64) {
        let place = usize::try_from(span % SPANS as u64).unwrap_or_default();
        let Some(place) = self.0.get(place) else { return };
        // One that is newer stays as it is: this was too long ago.
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let (there, before) = split(held);
            let before = if there == span { before } else { 0 };
            (there <= span).then(|| join(span, before.saturating_add(parts)))
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The number of the span that this moment is in.
fn number(millis: u64) -> u64 {
    millis / SPAN
}

fn split(held: u64) -> (u64, u64) {
    (held >> 32, held & u64::from(u32::MAX))
}

fn join(span: u64, parts: u64) -> u64 {
    (span << 32) | parts.min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[track_caller]
    fn is_about(pace: &Pace, now: u64, expected: f64) {
        let told = pace.per_second(at(now));
        assert!((told - expected).abs() < 0.2, "{told} instead of {expected}");
    }

    #[test]
    fn a_steady_stream_has_its_speed_until_two_seconds_after_its_end() {
        let pace = Pace::default();
        is_about(&pace, 0, 0.0);
        for token in 0..500 {
            pace.now(at(10_000 + 20 * token), 1);
        }
        is_about(&pace, 20_000, 50.0);
        is_about(&pace, 21_000, 25.0);
        is_about(&pace, 22_250, 0.0);
        is_about(&pace, 1_000_000, 0.0);
    }

    #[test]
    fn an_answer_in_one_piece_counts_for_the_time_that_it_took() {
        let pace = Pace::default();
        pace.since(at(60_000), at(10_000), 400);
        is_about(&pace, 60_000, 40.0);
        is_about(&pace, 61_000, 20.0);
        // One that was short, beside it.
        pace.since(at(60_900), at(500), 30);
        is_about(&pace, 61_000, 35.0);
        let quick = Pace::default();
        quick.since(at(5_000), Duration::ZERO, 10);
        is_about(&quick, 5_250, 5.0);
    }
}
