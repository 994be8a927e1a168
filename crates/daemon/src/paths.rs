//! Where Corral's files are: the XDG folders, or one folder that `CORRAL_HOME` names.

use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result};
use corral_engine::Environment;
use directories::BaseDirs;
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// Every path that Corral uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The user's home, for `~/` in the catalog.
    pub home: PathBuf,
    /// Folder of the two files below.
    pub config_dir: PathBuf,
    /// `models.toml`
    pub catalog: PathBuf,
    /// `settings.toml`
    pub settings: PathBuf,
    /// The entry by which the desktop starts Corral at login.
    pub autostart: PathBuf,
    /// Folder of the database and the models.
    pub data_dir: PathBuf,
    /// `corral.sqlite3`
    pub database: PathBuf,
    /// The models folder, unless the catalog names another.
    pub models_dir: PathBuf,
    /// Saved KV slots.
    pub slots_dir: PathBuf,
    /// Logs of the app.
    pub state_dir: PathBuf,
    /// Token, lock and what a running daemon says of itself; for this user only.
    pub run_dir: PathBuf,
    /// The management token.
    pub token: PathBuf,
    /// What a running daemon says of itself.
    pub daemon_file: PathBuf,
    /// Held by the running daemon.
    pub lock: PathBuf,
    /// The API key of the `llama-server` that serves.
    pub api_key: PathBuf,
    /// The socket by which launchers hand the listeners of their jails over.
    pub jails: PathBuf,
    /// Folder of what is known of shell sessions, and of their sockets; for this user only.
    pub shells: PathBuf,
    /// Folder of their logs.
    pub shell_logs: PathBuf,
    /// The profile of the jailed Claude Code, which is the home of everything that runs in a jail.
    pub profile: PathBuf,
    /// The folders in which a local Claude was opened.
    pub folders: PathBuf,
    /// Where things are moved to that were left in a workspace and would run by themselves.
    pub quarantine: PathBuf,
    /// Folder of marks of jails that run.
    pub jail_marks: PathBuf,
}

impl Paths {
    /// Works the paths out. Makes nothing.
    pub fn resolve(env: &Environment) -> Result<Self> {
        let base = BaseDirs::new().ok_or_else(|| {
            Error::new(Code::Io, "this user has no home folder").hint("set HOME, or set CORRAL_HOME to a folder")
        })?;
        if let Some(root) = env.get("CORRAL_HOME") {
            let root = std::path::absolute(root)
                .map_err(|error| Error::new(Code::Io, "CORRAL_HOME is no usable path").because(error))?;
            let config = root.join("config");
            let autostart = config.join("autostart");
            return Ok(Self::new(base.home_dir(), (config, autostart), root.join("data"), &root.join("cache"), {
                let [state, run, profile] = ["state", "run", "claude-local"].map(|name| root.join(name));
                (state, run, profile)
            }));
        }
        let state = base.state_dir().unwrap_or_else(|| base.data_local_dir()).join("corral");
        // Without a login session there is no runtime folder; the state folder is this user's own as well.
        let run = base.runtime_dir().map_or_else(|| state.join("run"), |dir| dir.join("corral"));
        let config = (base.config_dir().join("corral"), base.config_dir().join("autostart"));
        let data = base.data_dir().join("corral");
        let profile = base.home_dir().join(".claude-local");
        Ok(Self::new(base.home_dir(), config, data, &base.cache_dir().join("corral"), (state, run, profile)))
    }

    fn new(
        home: &Path,
        (config_dir, autostart): (PathBuf, PathBuf),
        data_dir: PathBuf,
        cache: &Path,
        dirs: (PathBuf, PathBuf, PathBuf),
    ) -> Self {
        let (state_dir, run_dir, profile) = dirs;
        Self {
            home: home.to_owned(),
            catalog: config_dir.join("models.toml"),
            settings: config_dir.join("settings.toml"),
            autostart: autostart.join("corral.desktop"),
            database: data_dir.join("corral.sqlite3"),
            models_dir: data_dir.join("models"),
            slots_dir: cache.join("slots"),
            token: run_dir.join("token"),
            daemon_file: run_dir.join("daemon.json"),
            lock: run_dir.join("lock"),
            api_key: run_dir.join("api-key"),
            jails: run_dir.join("jails.sock"),
            shells: run_dir.join("shells"),
            shell_logs: state_dir.join("shells"),
            profile,
            folders: state_dir.join("folders.json"),
            quarantine: state_dir.join("quarantine"),
            jail_marks: state_dir.join("jails"),
            config_dir,
            data_dir,
            state_dir,
            run_dir,
        }
    }

    /// Tells this home's containers from those of another, on the same engine.
    pub fn home_id(&self) -> String {
        let digest = Sha256::digest(self.data_dir.as_os_str().as_encoded_bytes());
        hex(&digest[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corral_home_holds_everything() {
        let env: Environment = [("CORRAL_HOME", "/tmp/d")].into_iter().collect();
        let paths = Paths::resolve(&env).unwrap();
        assert_eq!(paths.catalog, Path::new("/tmp/d/config/models.toml"));
        assert_eq!(paths.settings, Path::new("/tmp/d/config/settings.toml"));
        assert_eq!(paths.database, Path::new("/tmp/d/data/corral.sqlite3"));
        assert_eq!(paths.models_dir, Path::new("/tmp/d/data/models"));
        assert_eq!(paths.slots_dir, Path::new("/tmp/d/cache/slots"));
        assert_eq!(paths.state_dir, Path::new("/tmp/d/state"));
        assert_eq!(paths.token, Path::new("/tmp/d/run/token"));
    }

    #[test]
    fn two_homes_have_two_ids() {
        let id = |home: &str| Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap().home_id();
        assert_eq!(id("/tmp/d"), id("/tmp/d"));
        assert_ne!(id("/tmp/d"), id("/tmp/e"));
    }

    #[test]
    fn without_corral_home_nothing_mixes_with_other_programs() {
        let paths = Paths::resolve(&Environment::default()).unwrap();
        assert!(paths.catalog.ends_with("corral/models.toml"), "{}", paths.catalog.display());
        assert!(paths.database.ends_with("corral/corral.sqlite3"));
    }
}
