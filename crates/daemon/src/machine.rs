//! The machine and the desktop, for surfaces.

use corral_core::machine::{Finding, Machine};

use crate::Environment;
use crate::doctor::doctor;

/// This machine, as the daemon's environment shows it.
#[derive(Debug)]
pub(crate) struct ThisMachine {
    env: Environment,
}

impl ThisMachine {
    /// With the daemon's own environment.
    pub(crate) fn new(env: Environment) -> Self {
        Self { env }
    }
}

impl Machine for ThisMachine {
    fn doctor(&self) -> Vec<Finding> {
        doctor(&self.env)
    }
}
