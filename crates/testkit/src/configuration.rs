//! The configuration and the machine, as a test says.

use std::sync::Mutex;

use corral_core::catalog::{AutoSwitch, Catalog, Surroundings};
use corral_core::configuration::{
    CatalogFile, CatalogPatch, Configuration, EngineChoice, Problem, ServerChoice, SettingsFile,
};
use corral_core::launch::Runtime;
use corral_core::machine::{AutostartState, Finding, FindingStatus, Machine};
use corral_core::settings::Settings;
use corral_core::{Code, Error, Result, Secret};

/// Files in memory. A text's version is its length; a patch that names an image changes nothing else.
#[derive(Debug, Default)]
pub struct FakeConfiguration {
    /// `settings.toml`
    pub settings: Mutex<Settings>,
    /// `models.toml`
    pub catalog: Mutex<String>,
    /// The image that a patch has named.
    pub image: Mutex<String>,
}

impl Configuration for FakeConfiguration {
    fn settings(&self) -> SettingsFile {
        let settings = self.settings.lock().expect("not poisoned").clone();
        SettingsFile { path: "/c/settings.toml".to_owned(), settings, problem: None, writable: true }
    }

    fn put_settings(&self, settings: &Settings) -> Result<SettingsFile> {
        *self.settings.lock().expect("not poisoned") = settings.clone();
        Ok(self.settings())
    }

    fn catalog(&self) -> Result<CatalogFile> {
        let text = self.catalog.lock().expect("not poisoned").clone();
        Ok(CatalogFile {
            path: "/c/models.toml".to_owned(),
            version: text.len().to_string(),
            problems: self.check_catalog(&text),
            text,
            engine: EngineChoice {
                runtime: Runtime::Docker,
                image: self.image.lock().expect("not poisoned").clone(),
                binary: "llama-server".to_owned(),
                models_dir: "~/models".to_owned(),
            },
            server: ServerChoice { auto_switch: AutoSwitch::Always },
        })
    }

    fn check_catalog(&self, text: &str) -> Vec<Problem> {
        let here = Surroundings { path: "/c/models.toml".into(), home: "/h".into(), models_dir: "/m".into() };
        Catalog::read(text, &here).problems.iter().map(Problem::from).collect()
    }

    fn put_catalog(&self, text: &str, version: &str) -> Result<CatalogFile> {
        if self.catalog()?.version != version {
            return Err(Error::new(Code::CatalogChanged, "it has changed").hint("read it again"));
        }
        text.clone_into(&mut self.catalog.lock().expect("not poisoned"));
        self.catalog()
    }

    fn patch_catalog(&self, patch: &CatalogPatch) -> Result<CatalogFile> {
        if let Some(image) = &patch.engine.image {
            image.clone_into(&mut self.image.lock().expect("not poisoned"));
        }
        self.catalog()
    }
}

/// A machine on which one thing is well, and whose desktop starts Corral at login where it was told so.
#[derive(Debug, Default)]
pub struct FakeMachine {
    /// Whether it was.
    pub autostart: Mutex<bool>,
}

impl Machine for FakeMachine {
    fn doctor(&self) -> Vec<Finding> {
        let [check, message] = ["engine", "it answers"].map(str::to_owned);
        vec![Finding { check, status: FindingStatus::Ok, message, remedy: None }]
    }

    fn autostart(&self) -> Result<AutostartState> {
        let enabled = *self.autostart.lock().expect("not poisoned");
        Ok(AutostartState { enabled, path: "/c/corral.desktop".to_owned(), command: None })
    }

    fn set_autostart(&self, enabled: bool) -> Result<AutostartState> {
        *self.autostart.lock().expect("not poisoned") = enabled;
        self.autostart()
    }

    fn new_secret(&self) -> Result<Secret> {
        Ok(Secret::new("a code"))
    }
}
