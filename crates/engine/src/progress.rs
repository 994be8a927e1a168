//! How far a server is with loading its model, as its memory tells.
//!
//! `llama-server` says nothing about it that a program could read. But what it has read of the model's file is resident,
//! be it mapped or copied; where a GPU takes the weights without that, there is no progress to be had.

use std::fs;
use std::path::Path;
use std::time::Duration;

use corral_core::gguf;
use corral_core::launch::LaunchSpec;
use corral_core::ports::Job;
use corral_core::snapshot::{Progress, Step};

/// How often a person is shown a new figure.
const PAUSE: Duration = Duration::from_millis(250);

/// So many processes, at most, stand between what was started and the server.
const WRAPPERS: u8 = 4;

/// The size of a model in bytes, with all its parts; none where it cannot be told.
pub(crate) fn model_bytes(spec: &LaunchSpec) -> Option<u64> {
    let files = gguf::parts(&spec.file).into_iter().chain(spec.mmproj.clone());
    files.map(|file| fs::metadata(file).map(|metadata| metadata.len())).sum::<Result<u64, _>>().ok()
}

/// Reports how much of `total` bytes the process `pid` has resident, until it is dropped.
pub(crate) async fn report_loading(pid: Option<i32>, total: Option<u64>, job: &Job) {
    let (Some(pid), Some(total)) = (pid, total) else { return std::future::pending().await };
    // What the program itself takes is no part of the model.
    let base = resident(pid).unwrap_or(0);
    let mut done = 0;
    loop {
        tokio::time::sleep(PAUSE).await;
        // Weights that a GPU has taken over are given back: what was loaded once stays loaded.
        done = resident(pid).map_or(done, |bytes| done.max(bytes.saturating_sub(base).min(total)));
        job.report(Step::Load, Some(Progress { done_bytes: done, total_bytes: Some(total) }));
    }
}

/// The resident memory in bytes of a process or the largest of its children, which is the server where a wrapper or a
/// container's init stands before it.
fn resident(pid: i32) -> Option<u64> {
    let own = resident_of(&pid.to_string());
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(resident_of).chain([own]).flatten().max()
}

/// The memory in bytes that a process and its descendants have to themselves: what is mapped from files is not.
pub(crate) fn private(pid: i32) -> Option<u64> {
    fn of(pid: &str, depth: u8) -> Option<u64> {
        let status = fs::read_to_string(Path::new("/proc").join(pid).join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let own = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter(|_| depth > 0).filter_map(|child| of(child, depth - 1));
        Some(children.fold(own, u64::saturating_add))
    }
    of(&pid.to_string(), WRAPPERS)
}

fn resident_of(pid: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid).join("statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_becomes_resident_is_progress() {
        let seen = Arc::new(Mutex::new(None));
        let sink = seen.clone();
        let report = move |step, progress| *sink.lock().unwrap() = Some((step, progress));
        let job = Job::new(report, CancellationToken::new());
        let own = i32::try_from(std::process::id()).unwrap();
        let mut taken = Vec::new();
        tokio::select! {
            () = report_loading(Some(own), Some(32 << 20), &job) => {}
            () = async {
                tokio::time::sleep(PAUSE / 2).await;
                taken = vec![1_u8; 64 << 20];
                tokio::time::sleep(PAUSE * 2).await;
            } => {}
        }
        assert_eq!(taken.len(), 64 << 20);
        let all = Progress { done_bytes: 32 << 20, total_bytes: Some(32 << 20) };
        assert_eq!(*seen.lock().unwrap(), Some((Step::Load, Some(all))), "no more than there is");
    }

    #[test]
    fn a_process_that_is_gone_has_nothing_resident() {
        assert_eq!(resident(i32::MAX), None);
        assert!(resident(i32::try_from(std::process::id()).unwrap()).unwrap() > 1 << 20);
        assert_eq!(private(i32::MAX), None);
    }

    #[test]
    fn what_a_process_has_to_itself_is_told() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = private(own).unwrap();
        let taken = vec![1_u8; 256 << 20];
        let after = private(own).unwrap();
        assert!(after > before + (128 << 20), "{before} {after} {}", taken.len());
    }
}
