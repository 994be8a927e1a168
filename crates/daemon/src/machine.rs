//! The machine and the desktop, for surfaces.

use corral_core::machine::{AutostartState, Finding, Machine};
use corral_core::{Code, Error, Result, Secret};

use crate::Environment;
use crate::autostart::Autostart;
use crate::doctor::doctor;
use crate::paths::Paths;
use crate::runtime_files::random_secret;

/// This machine, as the daemon's environment shows it.
#[derive(Debug)]
pub(crate) struct ThisMachine {
    env: Environment,
    /// None where this program does not know where it is.
    autostart: Option<Autostart>,
}

impl ThisMachine {
    /// With the daemon's own environment.
    pub(crate) fn new(env: Environment, paths: &Paths) -> Self {
        let program = std::env::current_exe().ok();
        let autostart = program.and_then(|program| Some(Autostart::new(paths, program.parent()?)));
        Self { env, autostart }
    }

    fn entry(&self) -> Result<&Autostart> {
        self.autostart.as_ref().ok_or_else(|| Error::new(Code::Io, "this program does not know its own path"))
    }
}

impl Machine for ThisMachine {
    fn doctor(&self) -> Vec<Finding> {
        doctor(&self.env)
    }

    fn autostart(&self) -> Result<AutostartState> {
        self.entry()?.state()
    }

    fn set_autostart(&self, enabled: bool) -> Result<AutostartState> {
        self.entry()?.set(enabled)
    }

    fn new_secret(&self) -> Result<Secret> {
        random_secret()
    }
}
