//! The builds of `llama-server` that models would run on, where something was learned of one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use corral_core::launch::{LaunchSpec, Runtime};

use super::{Inner, lock};

/// How long Docker may take to tell. What was learned holds where it does not.
const WITHIN: Duration = Duration::from_millis(500);

/// Builds by what the catalog calls them. An image and a program may have the same name.
#[derive(Debug, Default)]
pub(super) struct KnownBuilds(HashMap<(Runtime, String), Option<String>>);

impl KnownBuilds {
    /// The build that a start with these settings runs; none where that is not known.
    pub(super) fn of(&self, spec: &LaunchSpec) -> Option<&str> {
        self.0.get(&name(spec))?.as_deref()
    }
}

impl Inner {
    /// Looks each build up once that something was learned of.
    pub(super) async fn builds(&self, specs: &[Arc<LaunchSpec>]) -> KnownBuilds {
        let learned: Vec<_> = {
            let lessons = lock(&self.lessons);
            specs.iter().filter(|spec| lessons.contains_key(&spec.model)).collect()
        };
        let mut builds = KnownBuilds::default();
        let looking = async {
            for spec in learned {
                if let Entry::Vacant(entry) = builds.0.entry(name(spec)) {
                    entry.insert(self.builds.of(spec).await);
                }
            }
        };
        if tokio::time::timeout(WITHIN, looking).await.is_err() {
            tracing::debug!("which builds of llama-server there are was not told within {WITHIN:?}");
        }
        builds
    }
}

fn name(spec: &LaunchSpec) -> (Runtime, String) {
    let name = match spec.runtime {
        Runtime::Docker => spec.image.clone(),
        Runtime::Process => spec.binary.to_string_lossy().into_owned(),
    };
    (spec.runtime, name)
}
