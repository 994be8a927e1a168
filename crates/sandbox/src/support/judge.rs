//! What the facts mean.

use std::path::PathBuf;

use super::{Bwrap, OPTIONS, Obstacle, Support};
use crate::memory::Unbounded;

/// Everything that was looked at. Files are as they were read, none where there is none.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub bwrap: Option<Found>,
    pub os_release: String,
    pub apparmor_restricts: Option<String>,
    pub userns_clone: Option<String>,
    pub max_user_namespaces: Option<String>,
    pub seccomp_actions: String,
    pub landlock: Option<u8>,
    pub memory: Result<u64, Unbounded>,
}

/// A bubblewrap, and what it said.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub path: PathBuf,
    pub version: Said,
    pub help: Said,
    pub trial: Said,
}

/// What a program wrote before it ended.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub success: bool,
    pub text: String,
}

pub(super) fn judge(facts: Facts) -> Support {
    let seccomp = facts.seccomp_actions.split_whitespace().any(|action| action == "errno");
    let obstacle = obstacle(&facts).or((!seccomp).then_some(Obstacle::NoSeccomp));
    let bwrap = facts.bwrap.map(|Found { path, version, .. }| {
        let version = version.text.strip_prefix("bubblewrap ").unwrap_or_default().trim().to_owned();
        Bwrap { path, version }
    });
    Support { bwrap, obstacle, landlock: facts.landlock, seccomp, memory: facts.memory }
}

fn obstacle(facts: &Facts) -> Option<Obstacle> {
    let install = install(&facts.os_release);
    let Some(Found { version, help, trial, .. }) = &facts.bwrap else {
        return Some(Obstacle::Missing { install });
    };
    if !version.text.starts_with("bubblewrap ") {
        return Some(Obstacle::Failed { said: version.text.clone() });
    }
    let lacks: Vec<_> = OPTIONS.into_iter().filter(|option| !knows(&help.text, option)).collect();
    if !lacks.is_empty() {
        return Some(Obstacle::TooOld { lacks, install });
    }
    if trial.success {
        return None;
    }
    let is = |file: &Option<String>, value| file.as_deref().map(str::trim) == Some(value);
    // The kernel's own switches first: with them off, nothing else can help.
    Some(if is(&facts.max_user_namespaces, "0") {
        Obstacle::NoNamespaces
    } else if is(&facts.userns_clone, "0") {
        Obstacle::NamespacesForRoot
    } else if is(&facts.apparmor_restricts, "1") && denied_by_apparmor(&trial.text) {
        Obstacle::AppArmor
    } else {
        Obstacle::Failed { said: trial.text.trim_start_matches("bwrap: ").to_owned() }
    })
}

/// The option is described, rather than mentioned: its line begins with it.
fn knows(help: &str, option: &str) -> bool {
    help.lines().any(|line| line.split_whitespace().next() == Some(option))
}

/// `AppArmor` lets the namespace be made, but without a privilege in it: the first thing that needs one fails.
fn denied_by_apparmor(said: &str) -> bool {
    said.contains("setting up uid map: Permission denied")
        || said.contains("loopback: Failed RTM_NEWADDR: Operation not permitted")
}

/// How the distribution of this `/etc/os-release` installs it: by its own name, else by that of one it is like.
fn install(os_release: &str) -> Option<&'static str> {
    let field = |name: &str| {
        let value = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    let (id, like) = (field("ID"), field("ID_LIKE"));
    id.split_whitespace().chain(like.split_whitespace()).find_map(|name| match name {
        "debian" | "ubuntu" => Some("sudo apt install bubblewrap"),
        "fedora" | "rhel" | "centos" => Some("sudo dnf install bubblewrap"),
        "arch" => Some("sudo pacman -S bubblewrap"),
        "suse" | "opensuse" | "opensuse-tumbleweed" | "opensuse-leap" => Some("sudo zypper install bubblewrap"),
        "alpine" => Some("sudo apk add bubblewrap"),
        _ => None,
    })
}
