//! `models.toml` on disk: made from the default at first, read, and watched.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use corral_core::catalog::{Catalog, DEFAULT_CATALOG, Reading, Server, Surroundings};
use corral_core::command::ControllerHandle;
use corral_core::launch::Runtime;
use corral_core::{Code, Error, Result};
use corral_engine::Engines;
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::paths::Paths;

/// An editor writes a file in several steps; this long without another one ends them.
const SETTLE: Duration = Duration::from_millis(50);

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
        return (read_catalog(paths), true);
    }
    (read_text(paths, DEFAULT_CATALOG), false)
}

/// Reads the catalog as it is on disk.
pub(crate) fn read_catalog(paths: &Paths) -> Reading {
    match std::fs::read_to_string(&paths.catalog) {
        Ok(text) => read_text(paths, &text),
        Err(error) => {
            let gone = error.kind() == io::ErrorKind::NotFound;
            let problem =
                Error::new(Code::CatalogInvalid, format!("cannot read {}", paths.catalog.display())).because(error);
            let hint = if gone { "`corral serve` makes a new one when it starts" } else { "see to its permissions" };
            Reading { catalog: None, problems: vec![problem.hint(hint)] }
        }
    }
}

fn read_text(paths: &Paths, text: &str) -> Reading {
    let surroundings =
        Surroundings { path: paths.catalog.clone(), home: paths.home.clone(), models_dir: paths.models_dir.clone() };
    Catalog::read(text, &surroundings)
}

/// Hands every saved change of the catalog to the controller, until the future is dropped.
pub(crate) async fn watch(paths: Paths, serving: Server, controller: ControllerHandle, engines: Engines) {
    let (changes, mut waiting) = mpsc::channel(1);
    let files = watched_files(&paths);
    let names = files.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        // A lost event is as good a reason to look as any.
        let relevant = event.is_ok_and(|event| {
            !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| names.contains(path))
        });
        if relevant {
            // One waiting message is enough: the file is read as it is then.
            let _ = changes.try_send(());
        }
    };
    let watching = notify::recommended_watcher(handler).and_then(|mut watcher| {
        // The folders are watched, not the files: an editor puts a new file in the old one's place.
        let folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    let _watcher = match watching {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "changes of the catalog are not noticed; restart Corral after one");
            return;
        }
    };
    let mut last = std::fs::read_to_string(&paths.catalog).ok();
    while waiting.recv().await.is_some() {
        while let Ok(Some(())) = tokio::time::timeout(SETTLE, waiting.recv()).await {}
        let (at, previous, server) = (paths.clone(), last.clone(), serving.clone());
        let read = tokio::task::spawn_blocking(move || {
            let text = std::fs::read_to_string(&at.catalog).ok();
            (text != previous).then(|| (text, reread(&at, &server)))
        });
        let Ok(Some((text, reading))) = read.await else { continue };
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
}

/// Whether a model of the catalog runs this way, or would if there were one.
pub(crate) fn uses(catalog: &Catalog, runtime: Runtime) -> bool {
    let mut models = catalog.models.values();
    models.any(|model| model.launch.runtime == runtime)
        || (catalog.models.is_empty() && catalog.engine.runtime == runtime)
}

/// The catalog's path, and what it points to where it is a link.
fn watched_files(paths: &Paths) -> Vec<PathBuf> {
    let mut files = vec![paths.catalog.clone()];
    files.extend(std::fs::canonicalize(&paths.catalog).ok().filter(|real| *real != paths.catalog));
    files
}

/// Reads a changed catalog; an address that changed is a problem to show, since it cannot change while serving.
fn reread(paths: &Paths, serving: &Server) -> Reading {
    let mut reading = read_catalog(paths);
    if reading.catalog.as_ref().is_some_and(|catalog| catalog.server != *serving) {
        reading.problems.push(
            Error::new(Code::CatalogInvalid, format!("{}: [server] has changed", paths.catalog.display()))
                .hint("restart Corral to serve on the new addresses"),
        );
    }
    reading
}
