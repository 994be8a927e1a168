//! `GET /models`: the catalog, with what each model is doing and whether its file is there.

use std::io;
use std::path::Path;

use axum::Json;
use axum::extract::{Request, State};
use corral_core::catalog::Model;
use corral_core::snapshot::Snapshot;
use corral_core::{Code, Error, ModelId, gguf};

use crate::dto::{ModelList, ModelState, ModelView};
use crate::failure::Failure;
use crate::router::{Shared, caller};

/// `GET /models`
pub(crate) async fn models(State(shared): State<Shared>, request: Request) -> Result<Json<ModelList>, Failure> {
    let is_session = caller(&request).is_some();
    let (catalog, snapshot) = (shared.controller.catalog(), shared.controller.snapshot());
    // Looking at 10,000 files takes some 20 ms, and a sleeping disk takes seconds.
    let looking = tokio::task::spawn_blocking(move || {
        catalog.models.iter().map(|(id, model)| ModelView::of(id, model, Some(&snapshot))).collect::<Vec<_>>()
    });
    let (looked, fits) = tokio::join!(looking, shared.controller.fits());
    let mut models = looked.map_err(|error| Error::new(Code::Internal, "the models were not listed").because(error))?;
    // While the program ends nobody says.
    let mut fits = fits.unwrap_or_default();
    for model in &mut models {
        model.fit = fits.remove(&model.id).map(|fit| if is_session { fit.without_names() } else { fit });
    }
    Ok(Json(ModelList { models }))
}

impl ModelView {
    /// A model of the catalog, with what it is doing where a snapshot tells, and what its files are.
    pub fn of(id: &ModelId, model: &Model, snapshot: Option<&Snapshot>) -> Self {
        let launch = &model.launch;
        let (size_bytes, problem) = match size(&launch.file) {
            Ok(bytes) => (Some(bytes), None),
            Err(error) => (None, Some(error.body())),
        };
        let loaded = snapshot.filter(|snapshot| snapshot.model.as_ref() == Some(id));
        let current = loaded.and_then(|snapshot| ModelState::of_phase(snapshot.phase));
        let at_rest = if problem.is_none() { ModelState::Available } else { ModelState::Missing };
        Self {
            id: id.clone(),
            name: model.name.clone(),
            description: model.description.clone(),
            file: launch.file.display().to_string(),
            size_bytes,
            ctx: launch.ctx,
            parallel: launch.parallel,
            state: current.unwrap_or(at_rest),
            fit: None,
            aliases: model.aliases.iter().map(|alias| alias.0.clone()).collect(),
            problem,
        }
    }
}

/// The size of a model in bytes, all parts together.
fn size(file: &Path) -> Result<u64, Error> {
    gguf::parts(file).iter().map(|part| part_size(part)).sum()
}

fn part_size(file: &Path) -> Result<u64, Error> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(Error::new(Code::ModelFileInvalid, format!("{} is not a file", file.display()))
            .hint("`file` in models.toml names a .gguf file")),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::new(Code::ModelFileMissing, format!("there is no file {}", file.display()))
                .hint("download it, or correct `file` or `models_dir` in models.toml"))
        }
        Err(error) => Err(Error::new(Code::Io, format!("{} cannot be looked at", file.display()))
            .because(error)
            .hint("make the folder readable for the user who runs Corral")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_all_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = folder.path().join("a-00001-of-00002.gguf");
        std::fs::write(&first, [0; 10]).expect("a file");
        let body = size(&first).expect_err("a part is missing").body();
        assert_eq!(body.code, Code::ModelFileMissing);
        assert!(body.message.contains("00002-of-00002"), "{}", body.message);
        std::fs::write(folder.path().join("a-00002-of-00002.gguf"), [0; 5]).expect("a file");
        assert_eq!(size(&first).expect("a size"), 15);
        assert_eq!(size(folder.path()).expect_err("a folder").code(), Code::ModelFileInvalid);
        assert_eq!(size(&first.join("x")).expect_err("no folder").code(), Code::ModelFileMissing);
    }
}
