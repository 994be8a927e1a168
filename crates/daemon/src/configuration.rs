//! `models.toml` and `settings.toml` as surfaces change them.

mod catalog;
mod edit;
mod settings;
mod write;

use std::sync::{Mutex, MutexGuard, PoisonError};

use corral_core::Result;
use corral_core::command::ControllerHandle;
use corral_core::configuration::{CatalogFile, CatalogPatch, Configuration, Problem, SettingsFile};
use corral_core::settings::Settings;

pub(crate) use self::write::replace;
use crate::paths::Paths;

/// The files of this home.
#[derive(Debug)]
pub(crate) struct ConfigurationFiles {
    paths: Paths,
    controller: ControllerHandle,
    /// Held from reading to writing: who changes a file changes what is in it then.
    changing: Mutex<()>,
}

impl ConfigurationFiles {
    /// Those at these paths; what a broken catalog does not tell is what the controller has in force.
    pub(crate) fn new(paths: Paths, controller: ControllerHandle) -> Self {
        Self { paths, controller, changing: Mutex::new(()) }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configuration for ConfigurationFiles {
    fn settings(&self) -> SettingsFile {
        settings::read(&self.paths)
    }

    fn put_settings(&self, wanted: &Settings) -> Result<SettingsFile> {
        let _alone = self.alone();
        settings::put(&self.paths, wanted)
    }

    fn catalog(&self) -> Result<CatalogFile> {
        let text = catalog::text(&self.paths)?;
        Ok(catalog::of_text(&self.paths, text, &self.controller.catalog()))
    }

    fn check_catalog(&self, text: &str) -> Vec<Problem> {
        catalog::check(&self.paths, text)
    }

    fn put_catalog(&self, text: &str, version: &str) -> Result<CatalogFile> {
        let _alone = self.alone();
        let text = catalog::put(&self.paths, text, version)?;
        Ok(catalog::of_text(&self.paths, text, &self.controller.catalog()))
    }

    fn patch_catalog(&self, patch: &CatalogPatch) -> Result<CatalogFile> {
        let _alone = self.alone();
        let text = catalog::patch(&self.paths, patch)?;
        Ok(catalog::of_text(&self.paths, text, &self.controller.catalog()))
    }
}
