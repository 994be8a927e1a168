//! What can stand behind `corral-dashboard`.

use clap::{Parser, ValueEnum};

/// Corral's dashboard in a window
///
/// The tray starts it. It shows the daemon that runs for this home, and ends with its window.
#[derive(Debug, Parser)]
#[command(name = "corral-dashboard", version)]
pub(crate) struct Args {
    /// The page to begin with
    #[arg(long, value_enum, default_value_t = Page::Models)]
    pub(crate) page: Page,
    /// Take names of pages from standard input, and `close`; tell on standard output when the first page can be used, and
    /// when a person is asked whether what is typed may be lost, or keeps it; end with the input
    #[arg(long)]
    pub(crate) attached: bool,
    /// Say this to whoever looks
    #[arg(long, value_name = "TEXT")]
    pub(crate) notice: Option<String>,
    /// Ask for a folder in place of all that, and print it
    #[arg(long, conflicts_with_all = ["attached", "notice"])]
    pub(crate) choose_folder: bool,
}

/// A page of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// The models of the catalog
    Models,
    /// What the GPU is doing
    Gpu,
    /// What the model is doing
    Live,
    /// The log of llama-server
    Logs,
    /// What requests cost
    Usage,
    /// Settings
    Settings,
    /// The text of models.toml
    Catalog,
    /// What is missing on this machine
    Health,
}

impl Page {
    /// What leads to it behind `#` in the dashboard's address.
    pub(crate) fn fragment(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Gpu => "gpu",
            Self::Live => "live",
            Self::Logs => "logs",
            Self::Usage => "usage",
            Self::Settings => "settings",
            Self::Catalog => "settings/catalog",
            Self::Health => "health",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound_and_pages_have_the_names_of_the_addresses() {
        Args::command().debug_assert();
        for page in Page::value_variants() {
            let name = page.fragment().rsplit('/').next().unwrap();
            assert_eq!(Page::from_str(name, false).as_ref(), Ok(page));
        }
    }
}
