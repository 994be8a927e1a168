//! Names of what other programs run or obey by themselves, outside of any jail, later.
//!
//! Not here: what is run when someone asks for it and is every project's daily work, as `package.json`, `Makefile`,
//! `gradle.properties`, `pnpm-workspace.yaml`, build scripts, tests and CI workflows. Whoever runs those runs what the
//! agent wrote. `rust-toolchain.toml` and `.tool-versions` are daily work too, but here: they say what is run by
//! whoever asks a compiler for no more than its version, as editors do.
//!
//! Nor is here what only steers an agent by its words: `CLAUDE.md`, `AGENTS.md`, `.claude/rules`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a name has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// A file, or anything else that is no folder.
    File,
    /// A folder with all in it, or a file of that name.
    Folder,
}

/// Names for one reason.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The folders that they are in, if it matters.
    within: &'static [&'static str],
    /// With spaces between them.
    names: &'static str,
    is: Is,
    /// What obeys them, as an end of "… is".
    pub(crate) why: &'static str,
}

/// The names.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        within: &[],
        names: ".vscode .idea .run .fleet .zed .vs .cursor .windsurf .helix .vim .bsp .sourcekit-lsp",
        is: Is::Folder,
        why: "obeyed by an editor when it opens the folder: tasks, programs to start, paths of tools",
    },
    Rule {
        within: &[],
        names: ".exrc .nvimrc .nvim.lua .vimrc .lvimrc .local.vimrc .dir-locals.el .dir-locals-2.el",
        is: Is::File,
        why: "run by an editor when it opens a file nearby",
    },
    Rule {
        within: &[],
        names: "rust-analyzer.toml .luarc.json .luarc.jsonc buildServer.json .kateproject",
        is: Is::File,
        why: "obeyed by an editor when it opens the folder: tasks, programs to start, paths of tools",
    },
    Rule {
        within: &[],
        names: ".devcontainer",
        is: Is::Folder,
        why: "obeyed by editors and codespaces: its commands run on this machine before any container",
    },
    Rule {
        within: &[],
        names: ".devcontainer.json",
        is: Is::File,
        why: "obeyed by editors and codespaces: its commands run on this machine before any container",
    },
    Rule {
        within: &[],
        names: ".envrc mise.toml .mise.toml mise.local.toml .mise.local.toml .autoenv .autoenv.zsh .autoenv_leave.zsh",
        is: Is::File,
        why: "run by a shell that enters the folder",
    },
    Rule {
        within: &[],
        names: "rust-toolchain.toml rust-toolchain .tool-versions",
        is: Is::File,
        why: "obeyed by what starts compilers and tools by their names: which one it is, and from which folder",
    },
    Rule { within: &[], names: ".direnv .mise", is: Is::Folder, why: "run by a shell that enters the folder" },
    Rule {
        within: &[".config"],
        names: "mise.toml mise",
        is: Is::Folder,
        why: "run by a shell that enters the folder",
    },
    Rule {
        within: &[],
        names: ".mcp.json opencode.json opencode.jsonc .aider.conf.yml crush.json .crush.json",
        is: Is::File,
        why: "obeyed by an agent that is started here without a jail: programs that it starts",
    },
    Rule {
        within: &[".claude"],
        names: "settings.json settings.local.json launch.json scheduled_tasks.json",
        is: Is::File,
        why: "obeyed by a Claude Code that is started here without a jail: hooks, permissions, programs that it starts",
    },
    Rule {
        within: &[".claude"],
        names: "hooks commands agents skills plugins workflows",
        is: Is::Folder,
        why: "obeyed by a Claude Code that is started here without a jail: each can bring commands along",
    },
    Rule {
        within: &[],
        names: ".gemini .codex .opencode .roo .kiro .continue .amazonq .factory .qwen .openhands .clinerules .junie .kilocode \
            .trae",
        is: Is::Folder,
        why: "obeyed by an agent that is started here without a jail: programs that it starts",
    },
    Rule {
        within: &[".github"],
        names: "hooks",
        is: Is::Folder,
        why: "obeyed by an agent that is started here without a jail: programs that it starts",
    },
    Rule {
        within: &[],
        names: ".husky .githooks",
        is: Is::Folder,
        why: "where Git's hooks are kept: they run at a commit",
    },
    Rule {
        within: &[],
        names: ".pre-commit-config.yaml prek.toml .overcommit.yml lefthook.yml lefthook.yaml lefthook.toml lefthook.json \
            .lefthook.yml .lefthook.yaml .lefthook.toml .lefthook.json lefthook-local.yml \
            lefthook-local.yaml .lefthook-local.yml .lefthook-local.yaml",
        is: Is::File,
        why: "a list of commands that run at a commit",
    },
    Rule {
        within: &[".cargo"],
        names: "config.toml config",
        is: Is::File,
        why: "obeyed by Cargo, and so by editors: programs that run in place of the compiler and of what is built",
    },
    Rule {
        within: &[],
        names: ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs .pnpmfile.mjs bunfig.toml",
        is: Is::File,
        why: "obeyed by a package manager at whatever it does: programs that it starts, where it fetches from",
    },
    Rule {
        within: &[],
        names: ".bundle",
        is: Is::Folder,
        why: "obeyed by a package manager at whatever it does: programs that it starts, where it fetches from",
    },
    Rule {
        within: &[".yarn"],
        names: "releases plugins",
        is: Is::Folder,
        why: "run by a package manager at whatever it does",
    },
    Rule {
        within: &[],
        names: ".mvn",
        is: Is::Folder,
        why: "obeyed by Maven, and so by editors: extensions and options of the Java that it starts",
    },
    Rule {
        within: &[],
        names: ".bazelrc .bazeliskrc .buckconfig .buckconfig.local .jvmopts .sbtopts",
        is: Is::File,
        why: "obeyed by a build tool at whatever it does: programs that it starts",
    },
    Rule {
        within: &[],
        names: ".Rprofile .Renviron .RData .byebugrc .octaverc .irbrc .pryrc .iex.exs .ghci .ocamlinit .pdbrc .gdbinit .lldbinit",
        is: Is::File,
        why: "run by an interpreter or a debugger that is started in the folder",
    },
    Rule {
        within: &[".hg"],
        names: "hgrc hgrc-not-shared",
        is: Is::File,
        why: "obeyed by Mercurial: hooks and programs that it starts",
    },
    Rule {
        within: &[".sl"],
        names: "config",
        is: Is::File,
        why: "obeyed by Sapling: hooks and programs that it starts",
    },
    Rule {
        within: &[".jj", "repo"],
        names: "config.toml",
        is: Is::File,
        why: "obeyed by Jujutsu: programs that it starts",
    },
    Rule { within: &[".pijul"], names: "config", is: Is::File, why: "obeyed by Pijul: hooks that it runs" },
];

/// Ends of names that editors open as a whole set-up.
const WORKSPACE_FILES: [&[u8]; 2] = [b".code-workspace", b".sublime-project"];

/// What obeys those.
const WORKSPACE_FILE_WHY: &str =
    "obeyed by an editor when it opens the folder: tasks, programs to start, paths of tools";

/// Folders that package managers and builds fill and remove at will; nothing in there is pinned, only looked at.
const OF_TOOLS: &str =
    "node_modules bower_components target build dist _deps .venv venv .tox .cache .terraform .build Pods";

/// The names, made ready for looking up.
#[derive(Debug)]
pub(crate) struct Names {
    by_name: HashMap<Vec<u8>, Vec<Entry>>,
    longest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    within: &'static [&'static str],
    is: Is,
    why: &'static str,
    /// The name is only on the way to what counts.
    is_way: bool,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// What it has to be.
    pub(crate) is: Is,
    /// What obeys it.
    pub(crate) why: &'static str,
    /// How many parts of the path belong to the name: `.claude/settings.json` has two.
    pub(crate) parts: usize,
    /// It counts only where it is a link, since what counts lies beneath.
    pub(crate) is_way: bool,
}

impl Names {
    pub(crate) fn new() -> Self {
        let mut by_name: HashMap<Vec<u8>, Vec<Entry>> = HashMap::new();
        let mut add =
            |name: &str, entry| by_name.entry(name.to_ascii_lowercase().into_bytes()).or_default().push(entry);
        for rule in RULES {
            for name in rule.names.split_whitespace() {
                add(name, Entry { within: rule.within, is: rule.is, why: rule.why, is_way: false });
            }
            for (depth, name) in rule.within.iter().enumerate() {
                add(name, Entry { within: &rule.within[..depth], is: Is::File, why: rule.why, is_way: true });
            }
        }
        let longest = by_name.keys().map(Vec::len).max().unwrap_or(0);
        Self { by_name, longest }
    }

    /// What `name` means in `folder`. Capitals count as small letters: some file systems see no difference.
    pub(crate) fn meaning(&self, folder: &Path, name: &OsStr) -> Option<Meaning> {
        let bytes = name.as_bytes();
        let of_editor = WORKSPACE_FILES.iter().any(|end| ends_with(bytes, end)).then_some(Meaning {
            is: Is::File,
            why: WORKSPACE_FILE_WHY,
            parts: 1,
            is_way: false,
        });
        if bytes.len() > self.longest {
            return of_editor;
        }
        let mut lower = [0; 64];
        let lower = lower.get_mut(..bytes.len())?;
        lower.copy_from_slice(bytes);
        lower.make_ascii_lowercase();
        let found = self.by_name.get(&*lower).and_then(|entries| {
            // What counts itself goes before what is only on the way.
            let mut entries: Vec<_> = entries.iter().filter(|entry| lies_within(folder, entry.within)).collect();
            entries.sort_by_key(|entry| entry.is_way);
            entries.first().map(|entry| Meaning {
                is: entry.is,
                why: entry.why,
                parts: entry.within.len() + 1,
                is_way: entry.is_way,
            })
        });
        found.or(of_editor)
    }
}

/// The names as they are written, as paths beneath a folder, and what they have to be.
pub(crate) fn exact() -> impl Iterator<Item = (PathBuf, Is)> {
    let of_rule = |rule: &'static Rule| {
        let within: PathBuf = rule.within.iter().collect();
        rule.names.split_whitespace().map(move |name| (within.join(name), rule.is))
    };
    RULES.iter().flat_map(of_rule)
}

/// The same, and Git's, made ready for asking about many paths.
#[derive(Debug)]
pub(crate) struct Exact(HashSet<PathBuf>);

impl Exact {
    pub(crate) fn new() -> Self {
        Self(exact().map(|(path, _)| path).chain([PathBuf::from(".git")]).collect())
    }

    /// Whether a path is one of them, or in one.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        let mut upper = PathBuf::new();
        path.iter().take(3).any(|step| {
            upper.push(step);
            self.0.contains(&upper)
        })
    }
}

/// Whether a path leads through a folder that tools fill.
pub(crate) fn is_of_tools(path: &Path) -> bool {
    path.components().any(|step| OF_TOOLS.split_whitespace().any(|name| step.as_os_str() == name))
}

fn ends_with(bytes: &[u8], end: &[u8]) -> bool {
    bytes.len() >= end.len() && bytes[bytes.len() - end.len()..].eq_ignore_ascii_case(end)
}

fn lies_within(folder: &Path, within: &[&str]) -> bool {
    let mut steps = folder.components().rev();
    within.iter().rev().all(|name| steps.next().is_some_and(|step| step.as_os_str().eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(folder: &str, name: &str) -> Option<(usize, bool)> {
        let meaning = Names::new().meaning(Path::new(folder), OsStr::new(name));
        meaning.map(|meaning| (meaning.parts, meaning.is_way))
    }

    #[test]
    fn names_count_in_their_folders_and_in_any_writing() {
        assert_eq!(parts("", ".vscode"), Some((1, false)));
        assert_eq!(parts("a/b", ".VSCode"), Some((1, false)));
        assert_eq!(parts("", ".rprofile"), Some((1, false)));
        assert_eq!(parts("a/.claude", "settings.json"), Some((2, false)));
        assert_eq!(parts("a", "settings.json"), None);
        assert_eq!(parts("a", ".claude"), Some((1, true)));
        assert_eq!(parts(".jj/repo", "config.toml"), Some((3, false)));
        assert_eq!(parts("repo", "config.toml"), None);
        assert_eq!(parts(".cargo", "config.toml"), Some((2, false)));
        assert_eq!(parts("", "x.code-workspace"), Some((1, false)));
        assert_eq!(parts("a", "x.sublime-project"), Some((1, false)));
        assert_eq!(parts(".github", "hooks"), Some((2, false)));
        for daily in [
            "package.json",
            "Makefile",
            "build.rs",
            "Cargo.toml",
            "CLAUDE.md",
            "AGENTS.md",
            ".env",
            ".gitignore",
            "config",
        ] {
            assert_eq!(parts("", daily), None, "{daily}");
        }
    }

    #[test]
    fn every_name_is_short_enough_to_be_found() {
        for rule in RULES {
            let folder: PathBuf = rule.within.iter().collect();
            for name in rule.names.split_whitespace() {
                assert!(parts(folder.to_str().unwrap(), name).is_some_and(|(_, is_way)| !is_way), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_may_be_a_name(folder in ".{0,40}", name in proptest::collection::vec(1_u8..=255, 0..80)) {
            Names::new().meaning(Path::new(&folder), OsStr::from_bytes(&name));
        }
    }
}
