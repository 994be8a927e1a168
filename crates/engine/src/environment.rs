//! What an engine needs of the world around it, passed in once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use corral_core::log::LogBuffer;

/// The environment variables of the process, taken once at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process, as they are now. One that is not UTF-8 is left out.
    pub fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable. One that is set to nothing counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What both runtimes need, passed in by the composition.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Tells this home's instances from those of another: the value of their label.
    pub home_id: String,
    /// Where KV slots are kept; made when missing.
    pub slots_dir: PathBuf,
    /// Where logs and records of the app are kept.
    pub state_dir: PathBuf,
    /// The runtime folder, readable by this user only.
    pub run_dir: PathBuf,
    /// The environment variables.
    pub env: Environment,
    /// Where `llama-server`'s log goes.
    pub logs: Arc<LogBuffer>,
    /// Corral's version.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let env: Environment = [("DOCKER_HOST", ""), ("HOME", "/home/u")].into_iter().collect();
        assert_eq!(env.get("DOCKER_HOST"), None);
        assert_eq!(env.get("HOME"), Some("/home/u"));
        assert_eq!(env.get("PATH"), None);
    }
}
