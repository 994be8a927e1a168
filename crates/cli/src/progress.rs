//! What an operation is doing, on stderr while its end is awaited.

use std::io::{self, IsTerminal};
use std::time::Duration;

use corral_core::snapshot::{OperationView, Snapshot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::remark;
use crate::text;
use corral_client::Client;
use corral_client::snapshots;

/// Shows what goes on until it is dropped: one changing line on a terminal, with `verbose` a line per step, else
/// nothing.
pub(crate) struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    /// Begins to show, with `asked` until the daemon says more.
    pub(crate) fn begin(client: &Client, asked: &str, verbose: bool) -> Self {
        let bar = (!verbose && io::stderr().is_terminal()).then(|| bar(asked));
        if bar.is_some() || verbose {
            let (client, bar) = (client.clone(), bar.clone());
            // It ends with the stream or the process; nobody waits for it.
            std::thread::spawn(move || {
                // Whatever is wrong here, the operation itself will say.
                if let Ok(stream) = client.stream("/events") {
                    match bar {
                        Some(bar) => draw(snapshots(stream), &bar),
                        None => steps(snapshots(stream), remark),
                    }
                }
            });
        }
        Self { bar }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(asked: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {prefix}  {took}{msg}").ok();
    if let Some(style) = style {
        let took = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // A line that cannot be drawn is of no interest.
            let _ = write!(text, "{}", text::duration(state.elapsed().as_secs_f64()));
        };
        bar.set_style(style.with_key("took", took));
    }
    bar.set_prefix(asked.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn draw(snapshots: impl Iterator<Item = Snapshot>, bar: &ProgressBar) {
    for operation in snapshots.filter_map(|snapshot| snapshot.operation) {
        bar.set_prefix(heading(&operation));
        let expected = operation.expected_ms.map_or_else(String::new, |ms| format!(" of {}", text::about(ms)));
        let progress = operation.progress.map_or_else(String::new, |done| format!("  {}", text::progress(done)));
        bar.set_message(expected + &progress);
    }
}

fn steps(snapshots: impl Iterator<Item = Snapshot>, mut say: impl FnMut(&str)) {
    let mut last = None;
    for operation in snapshots.filter_map(|snapshot| snapshot.operation) {
        let here = Some((operation.id, operation.step));
        if here != last {
            let begins = last.map(|(id, _)| id) != Some(operation.id);
            let expected = operation.expected_ms.filter(|_| begins);
            let expected = expected.map_or_else(String::new, |ms| format!("  {} in all", text::about(ms)));
            say(&(heading(&operation) + &expected));
            last = here;
        }
    }
}

fn heading(operation: &OperationView) -> String {
    format!("{}  {}", text::change(operation), text::step(operation.step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The snapshots of a switch that goes through these steps, with their bytes done.
    fn passing(steps: &[(&str, Option<u64>)]) -> Vec<Snapshot> {
        let snapshot = |(step, done): &(&str, Option<u64>)| {
            let progress = done.map(|done| serde_json::json!({ "done_bytes": done, "total_bytes": 4_700_000_000_u64 }));
            let operation = serde_json::json!({
                "id": "018f0000-0000-7000-8000-000000000000", "kind": "switch", "from": "a", "to": "b", "step": step,
                "progress": progress, "started_at": "2026-05-04T12:00:00Z",
            });
            let snapshot = serde_json::json!({
                "version": "1", "phase": "loading", "model": "b", "operation": operation, "engine": null, "error": null,
                "gateway": null, "sessions": [], "catalog": { "path": "/c", "models": 2, "problems": [] },
            });
            serde_json::from_value(snapshot).unwrap()
        };
        steps.iter().map(snapshot).collect()
    }

    #[test]
    fn the_line_says_what_is_done_and_how_far_it_is() {
        let bar = ProgressBar::hidden();
        draw(passing(&[("stop", None), ("load", Some(1_200_000_000))]).into_iter(), &bar);
        assert_eq!((bar.prefix().as_str(), bar.message().as_str()), ("switch a → b  load", "  1.2 GB/4.7 GB"));
        draw(passing(&[("rollback", None)]).into_iter(), &bar);
        assert_eq!((bar.prefix().as_str(), bar.message().as_str()), ("switch a → b  roll back", ""));
    }

    #[test]
    fn how_long_it_will_take_is_said_where_it_is_known() {
        let mut all = passing(&[("stop", None), ("load", Some(1_200_000_000))]);
        for snapshot in &mut all {
            snapshot.operation.as_mut().unwrap().expected_ms = Some(12_300);
        }
        let bar = ProgressBar::hidden();
        draw(all.clone().into_iter(), &bar);
        assert_eq!(bar.message(), " of about 12 s  1.2 GB/4.7 GB");
        let mut said = Vec::new();
        steps(all.into_iter(), |step| said.push(step.to_owned()));
        assert_eq!(said, ["switch a → b  stop  about 12 s in all", "switch a → b  load"]);
    }

    #[test]
    fn each_step_is_said_once() {
        let mut said = Vec::new();
        let all = passing(&[("prepare", None), ("load", Some(0)), ("load", Some(1)), ("rollback", None)]);
        steps(all.into_iter(), |step| said.push(step.to_owned()));
        assert_eq!(said, ["switch a → b  prepare", "switch a → b  load", "switch a → b  roll back"]);
    }
}
