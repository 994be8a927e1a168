//! What a launch asks for: of this process, or of the one that runs already.

use std::path::PathBuf;

use clap::{Parser, ValueHint};
use corral_core::tray::TrayEvent;
use serde::{Deserialize, Serialize};

/// A page of the dashboard that the tray opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Page {
    /// The models.
    Models,
    /// `llama-server`'s log.
    Logs,
    /// The text of `models.toml`.
    Catalog,
}

impl Page {
    /// Its name in the dashboard's address.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Logs => "logs",
            Self::Catalog => "catalog",
        }
    }
}

/// Corral's tray icon, with everything that `corral serve` does where that does not run
///
/// A second launch opens the dashboard of the first, or passes on what it was asked for.
#[derive(Debug, Parser)]
#[command(name = "corral-tray", version)]
pub(crate) struct Args {
    /// Show nothing but the icon: for the launch at login
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Open a local Claude in this folder, or where the last one was
    #[arg(long, value_name = "DIR", num_args = 0..=1, value_hint = ValueHint::DirPath)]
    pub(crate) open_claude: Option<Vec<PathBuf>>,
    /// Open the log
    #[arg(long)]
    pub(crate) logs: bool,
    /// End the one that runs
    #[arg(long)]
    pub(crate) quit: bool,
}

/// What one launch asks of the process that runs already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Nothing: it was launched at login.
    Nothing,
    /// The dashboard.
    Open(Page),
    /// A local Claude, in this folder or where the last one was.
    OpenClaude(Option<PathBuf>),
    /// Its end.
    Quit,
}

impl Args {
    /// What the launch asks for. A folder is made absolute: the process that runs already is in another one.
    pub(crate) fn request(&self) -> Request {
        if self.quit {
            return Request::Quit;
        }
        if let Some(folder) = &self.open_claude {
            let absolute = |folder: &PathBuf| std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            return Request::OpenClaude(folder.first().map(absolute));
        }
        match (self.logs, self.hidden) {
            (true, _) => Request::Open(Page::Logs),
            (false, true) => Request::Nothing,
            (false, false) => Request::Open(Page::Models),
        }
    }
}

impl Request {
    /// The click that it is as good as.
    pub(crate) fn event(self) -> Option<TrayEvent> {
        match self {
            Self::Nothing => None,
            Self::Open(Page::Models) => Some(TrayEvent::Dashboard),
            Self::Open(Page::Logs) => Some(TrayEvent::Logs),
            Self::Open(Page::Catalog) => Some(TrayEvent::Catalog),
            Self::OpenClaude(folder) => Some(TrayEvent::OpenClaude(folder)),
            Self::Quit => Some(TrayEvent::Quit),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn asked(arguments: &[&str]) -> Request {
        Args::parse_from([&["corral-tray"], arguments].concat()).request()
    }

    #[test]
    fn each_launch_asks_for_one_thing() {
        Args::command().debug_assert();
        assert_eq!(asked(&[]), Request::Open(Page::Models));
        assert_eq!(asked(&["--hidden"]), Request::Nothing);
        assert_eq!(asked(&["--logs"]), Request::Open(Page::Logs));
        assert_eq!(asked(&["--open-claude"]), Request::OpenClaude(None));
        assert_eq!(asked(&["--open-claude", "/w"]), Request::OpenClaude(Some("/w".into())));
        let here = std::env::current_dir().unwrap().join("w");
        assert_eq!(asked(&["--open-claude", "w"]), Request::OpenClaude(Some(here)));
        assert_eq!(asked(&["--quit", "--logs"]), Request::Quit);
    }
}
