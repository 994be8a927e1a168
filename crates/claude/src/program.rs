//! The `claude` program: where it is, what it is, and what it needs to be seen of.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_core::{Code, Error, Result};
use serde::Deserialize;

use crate::version::Version;
use crate::{Variables, lookup, run};

/// How Claude Code is installed.
pub const INSTALL: &str =
    "`curl -fsSL https://claude.ai/install.sh | bash`, or `npm install -g @anthropic-ai/claude-code`";

const PACKAGE: &str = "@anthropic-ai/claude-code";
/// It says its version within a second, also on a slow disk; this is for one that hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Programs that stand for many others and choose by their name: they need more than themselves.
const SHIMS: &[&str] = &["volta-shim", "mise", "asdf", "rtx", "proto-shim"];

/// A Claude Code that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's real file, or the script's.
    pub file: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its version.
    pub version: Version,
    /// Files and folders that have to be seen where it runs.
    pub read_only: Vec<PathBuf>,
}

/// What the program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One that runs by itself.
    Native,
    /// A script that this `node` runs.
    Node(PathBuf),
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// The only one that will do: `CORRAL_CLAUDE`.
    pub named: Option<PathBuf>,
    /// `PATH`.
    pub path: OsString,
    /// Programs to try after `PATH`.
    pub programs: Vec<PathBuf>,
    /// `node_modules` folders to try after those.
    pub modules: Vec<PathBuf>,
}

/// What was found under a name.
struct Shape {
    file: PathBuf,
    kind: Kind,
    /// The npm package that it belongs to, and what that says of itself.
    package: Option<(PathBuf, Package)>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

impl Search {
    /// Where this user's Claude Code can be.
    pub fn new(variables: &Variables<'_>, home: &Path) -> Self {
        let set = |name| variables(name).filter(|value| !value.is_empty());
        let programs = [".local/bin/claude", ".claude/local/claude", ".claude/local/node_modules/.bin/claude"];
        let mut programs: Vec<_> = programs.map(|path| home.join(path)).into();
        programs.push(home.join(".bun/bin/claude"));
        let mut modules: Vec<_> = ["/usr/lib/node_modules", "/usr/local/lib/node_modules"].map(PathBuf::from).into();
        modules.push(home.join(".npm-global/lib/node_modules"));
        modules.extend(of_nvm(&home.join(".nvm/versions/node")));
        Self {
            named: set("CORRAL_CLAUDE").map(PathBuf::from),
            path: set("PATH").unwrap_or_default(),
            programs,
            modules,
        }
    }

    /// Finds the program. `scratch` is a folder of this user's own, for asking the program its version.
    pub fn program(&self, scratch: &Path) -> Result<Program> {
        let missing = |message: String| {
            Error::new(Code::ProgramMissing, message)
                .hint(format!("install it: {INSTALL}; or set CORRAL_CLAUDE to its path"))
        };
        if let Some(named) = &self.named {
            let at = named.display();
            if !named.is_absolute() {
                return Err(missing(format!("CORRAL_CLAUDE is `{at}`, which is no absolute path")));
            }
            let shape = self.shape(named).map_err(|why| missing(format!("CORRAL_CLAUDE is {at}, which {why}")))?;
            return program(shape, scratch).map_err(|why| missing(format!("CORRAL_CLAUDE is {at}, which {why}")));
        }
        let mut refused = None;
        for candidate in self.candidates() {
            match self.shape(&candidate).and_then(|shape| program(shape, scratch)) {
                Ok(program) => return Ok(program),
                Err(why) => refused = refused.or_else(|| Some(format!("{} {why}", candidate.display()))),
            }
        }
        let why = refused.unwrap_or_else(|| "it is not installed".to_owned());
        Err(missing(format!("Claude Code cannot be used: {why}")))
    }

    fn candidates(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let programs = self.programs.iter().filter(|path| path.exists()).cloned();
        let packages = self.modules.iter().flat_map(|modules| {
            let package = modules.join(PACKAGE);
            ["bin/claude.exe", "cli.js"].map(|file| package.join(file)).into_iter().filter(|path| path.exists())
        });
        lookup::on_path(&self.path, "claude").chain(programs).chain(packages)
    }

    /// What a file is; or why it does not do, as what follows its path in a sentence.
    fn shape(&self, candidate: &Path) -> Result<Shape, String> {
        let file = candidate.canonicalize().map_err(|error| format!("cannot be found: {error}"))?;
        if !file.is_file() {
            return Err("is no file".to_owned());
        }
        let head = head(&file).map_err(|error| format!("cannot be read: {error}"))?;
        let package = package_of(&file);
        if head.starts_with(b"\x7fELF") {
            let name = file.file_name().unwrap_or_default();
            if SHIMS.iter().any(|shim| name == *shim) {
                let why =
                    format!("is a link to {}, which starts another program; which one cannot be seen", file.display());
                return Err(why);
            }
            if !lookup::is_program(&file) {
                return Err("may not be run".to_owned());
            }
            return Ok(Shape { file, kind: Kind::Native, package });
        }
        let Some((folder, about)) = package else {
            return Err("is a script that starts another program; which one cannot be seen".to_owned());
        };
        // What npm puts beside the script where it was kept from putting it in the script's place.
        if let Some(native) = native_of(&folder) {
            return Ok(Shape { file: native, kind: Kind::Native, package: Some((folder, about)) });
        }
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        if !line.starts_with(b"#!") || !String::from_utf8_lossy(line).contains("node") {
            return Err(format!("lacks its native program: run `node {}`", folder.join("install.cjs").display()));
        }
        let node = self.node(candidate, &folder).ok_or("needs `node`, which is not installed")?;
        Ok(Shape { file, kind: Kind::Node(node), package: Some((folder, about)) })
    }

    /// The `node` of the same installation, or the first of `PATH`.
    fn node(&self, candidate: &Path, package: &Path) -> Option<PathBuf> {
        let beside = candidate.parent().map(|folder| folder.join("node"));
        // `P/lib/node_modules/@anthropic-ai/claude-code` belongs to `P/bin/node`.
        let prefix = package.ancestors().nth(4).map(|prefix| prefix.join("bin/node"));
        let near = beside.into_iter().chain(prefix).filter(|path| lookup::is_program(path));
        let mut all = near.chain(lookup::on_path(&self.path, "node")).filter_map(|path| path.canonicalize().ok());
        all.find(|path| {
            let name = path.file_name().unwrap_or_default();
            !SHIMS.iter().any(|shim| name == *shim) && head(path).is_ok_and(|head| head.starts_with(b"\x7fELF"))
        })
    }
}

impl Program {
    /// The command that runs it; arguments go behind it.
    pub fn argv(&self) -> Vec<PathBuf> {
        match &self.kind {
            Kind::Native => vec![self.file.clone()],
            Kind::Node(node) => vec![node.clone(), self.file.clone()],
        }
    }
}

fn program(shape: Shape, scratch: &Path) -> Result<Program, String> {
    let Shape { file, kind, package } = shape;
    let read_only = match (&kind, &package) {
        (Kind::Node(node), Some((folder, _))) => vec![node.clone(), folder.clone()],
        (Kind::Node(node), None) => vec![node.clone(), file.clone()],
        (Kind::Native, _) => vec![file.clone()],
    };
    let mut program = Program { file, kind, version: Version(0, 0, 0), read_only };
    let written = package.and_then(|(_, about)| about.version.parse().ok()).or_else(|| named_version(&program.file));
    program.version = match written {
        Some(version) => version,
        None => asked_version(&program, scratch)?,
    };
    Ok(program)
}

/// The version in the path of a native installation: `~/.local/share/claude/versions/2.1.329`.
fn named_version(file: &Path) -> Option<Version> {
    let name = file.file_name()?.to_str()?.parse().ok()?;
    file.parent()?.ends_with("claude/versions").then_some(name)
}

fn asked_version(program: &Program, scratch: &Path) -> Result<Version, String> {
    let mut argv = program.argv();
    argv.push("--version".into());
    let said = run::output(&argv, scratch, PATIENCE).map_err(|error| format!("does not say its version: {error}"))?;
    said.parse().map_err(|_| {
        let said: String = said.trim().escape_debug().take(100).collect();
        format!("does not say its version, but `{said}`")
    })
}

/// The package that a file belongs to, where that is Claude Code's, or Claude Code's for one platform.
fn package_of(file: &Path) -> Option<(PathBuf, Package)> {
    file.ancestors().skip(1).take(3).find_map(|folder| {
        let text = head_of(&folder.join("package.json"), 64 << 10).ok()?;
        let package: Package = serde_json::from_slice(&text).ok()?;
        package.name.starts_with(PACKAGE).then(|| (folder.to_owned(), package))
    })
}

/// The native program of this platform that npm put inside the package or beside it.
fn native_of(package: &Path) -> Option<PathBuf> {
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let libc = if cfg!(target_env = "musl") { ["-musl", ""] } else { ["", "-musl"] };
    let roots = [package.join("node_modules"), package.ancestors().nth(2)?.to_owned()];
    let files = roots.iter().flat_map(|root| libc.map(|libc| root.join(format!("{PACKAGE}-linux-{cpu}{libc}/claude"))));
    let mut files = files.filter_map(|file| file.canonicalize().ok());
    files.find(|file| lookup::is_program(file) && head(file).is_ok_and(|head| head.starts_with(b"\x7fELF")))
}

fn head(file: &Path) -> std::io::Result<Vec<u8>> {
    head_of(file, 256)
}

fn head_of(file: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(most).read_to_end(&mut head)?;
    Ok(head)
}

/// The `node_modules` of each Node that nvm has, the newest first.
fn of_nvm(versions: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(versions)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut known: Vec<(Version, String)> =
        entries.filter_map(|name| Some((name.strip_prefix('v')?.parse().ok()?, name))).collect();
    known.sort();
    known.into_iter().rev().map(|(_, name)| versions.join(name).join("lib/node_modules")).collect()
}

#[cfg(test)]
mod tests;
