//! `models.toml` on disk: made from the default at first, read, and watched.

use std::io;

use corral_core::catalog::{Catalog, DEFAULT_CATALOG, Reading, Server, Surroundings};
use corral_core::command::ControllerHandle;
use corral_core::launch::Runtime;
use corral_core::{Code, Error, Result};
use corral_engine::Engines;

use crate::paths::Paths;
use crate::watched_files::WatchedFiles;

/// Makes the catalog from the default where there is none. Returns whether it did.
pub fn ensure_catalog(paths: &Paths) -> Result<bool> {
    if paths.catalog.exists() {
        return Ok(false);
    }
    std::fs::create_dir_all(&paths.config_dir)
        .and_then(|()| std::fs::write(&paths.catalog, DEFAULT_CATALOG))
        .map_err(|error| Error::new(Code::Io, format!("cannot write {}", paths.catalog.display())).because(error))?;
    Ok(true)
}

/// Reads the catalog; where there is none, the examples that [`ensure_catalog`] would make. Makes nothing. Returns
/// whether there is one.
pub fn read_catalog_or_examples(paths: &Paths) -> (Reading, bool) {
    if paths.catalog.exists() {
        return (read(paths).1, true);
    }
    (read_text(paths, DEFAULT_CATALOG), false)
}

/// The text of the catalog, where it can be read, and what is in it.
pub(crate) fn read(paths: &Paths) -> (Option<String>, Reading) {
    match std::fs::read_to_string(&paths.catalog) {
        Ok(text) => {
            let reading = read_text(paths, &text);
            (Some(text), reading)
        }
        Err(error) => {
            let gone = error.kind() == io::ErrorKind::NotFound;
            let problem =
                Error::new(Code::CatalogInvalid, format!("cannot read {}", paths.catalog.display())).because(error);
            let hint = if gone { "`corral serve` makes a new one when it starts" } else { "see to its permissions" };
            (None, Reading { catalog: None, problems: vec![problem.hint(hint)] })
        }
    }
}

/// What is in a text that is, or may become, the catalog.
pub(crate) fn read_text(paths: &Paths, text: &str) -> Reading {
    let surroundings =
        Surroundings { path: paths.catalog.clone(), home: paths.home.clone(), models_dir: paths.models_dir.clone() };
    Catalog::read(text, &surroundings)
}

/// Hands every saved change of the catalog to the controller, until the future is dropped. `last` is the text that it
/// has already.
pub(crate) async fn watch(
    paths: Paths,
    mut last: Option<String>,
    serving: Server,
    controller: ControllerHandle,
    engines: Engines,
) {
    let unnoticed = |error| tracing::warn!(%error, "changes of the catalog are not noticed; restart Corral after one");
    let mut watched = match WatchedFiles::new(vec![paths.catalog.clone()]) {
        Ok(watched) => watched,
        Err(error) => return unnoticed(error),
    };
    // The first look finds what has changed since the start.
    loop {
        let (at, previous, server) = (paths.clone(), last.clone(), serving.clone());
        let look = tokio::task::spawn_blocking(move || {
            let followed = watched.follow();
            let (text, reading) = read(&at);
            (watched, followed, (text != previous).then(|| (text, with_server(reading, &at, &server))))
        });
        let Ok((again, followed, change)) = look.await else {
            tracing::error!("the catalog's reader has broken down: restart Corral after a change of the catalog");
            return;
        };
        watched = again;
        if let Err(error) = followed {
            unnoticed(error);
        }
        if let Some((text, reading)) = change {
            last = text;
            for problem in &reading.problems {
                tracing::warn!(%problem, "the catalog has a mistake");
            }
            if let Some(catalog) = &reading.catalog {
                engines.set_docker_in_use(uses(catalog, Runtime::Docker));
            }
            if controller.catalog_read(reading).await.is_err() {
                return;
            }
            tracing::info!("the catalog was read again");
        }
        if !watched.changed().await {
            return;
        }
    }
}

/// Whether a model of the catalog runs this way, or would if there were one.
pub(crate) fn uses(catalog: &Catalog, runtime: Runtime) -> bool {
    let mut models = catalog.models.values();
    models.any(|model| model.launch.runtime == runtime)
        || (catalog.models.is_empty() && catalog.engine.runtime == runtime)
}

/// An address that changed is a problem to show, since it cannot change while serving.
fn with_server(mut reading: Reading, paths: &Paths, serving: &Server) -> Reading {
    if reading.catalog.as_ref().is_some_and(|catalog| catalog.server != *serving) {
        reading.problems.push(
            Error::new(Code::CatalogInvalid, format!("{}: [server] has changed", paths.catalog.display()))
                .hint("restart Corral to serve on the new addresses"),
        );
    }
    reading
}
