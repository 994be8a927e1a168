//! `GET /models`: the catalog, with what each model is doing and whether its file is there.

use std::io;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::State;
use corral_core::catalog::Model;
use corral_core::snapshot::Snapshot;
use corral_core::{Code, Error, ModelId};

use crate::dto::{ModelList, ModelState, ModelView};
use crate::failure::Failure;
use crate::router::Shared;

/// `GET /models`
pub(crate) async fn models(State(shared): State<Shared>) -> Result<Json<ModelList>, Failure> {
    let (catalog, snapshot) = (shared.controller.catalog(), shared.controller.snapshot());
    // Looking at 10,000 files takes some 20 ms, and a sleeping disk takes seconds.
    let looking = tokio::task::spawn_blocking(move || {
        catalog.models.iter().map(|(id, model)| view(id, model, &snapshot)).collect()
    });
    let models =
        looking.await.map_err(|error| Error::new(Code::Internal, "the models were not listed").because(error))?;
    Ok(Json(ModelList { models }))
}

fn view(id: &ModelId, model: &Model, snapshot: &Snapshot) -> ModelView {
    let launch = &model.launch;
    let (size_bytes, problem) = match size(&launch.file) {
        Ok(bytes) => (Some(bytes), None),
        Err(error) => (None, Some(error.body())),
    };
    let current = if snapshot.model.as_ref() == Some(id) { ModelState::of_phase(snapshot.phase) } else { None };
    let at_rest = if problem.is_none() { ModelState::Available } else { ModelState::Missing };
    ModelView {
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

/// The size of a model in bytes, all parts together.
fn size(file: &Path) -> Result<u64, Error> {
    let mut bytes = part_size(file)?;
    for part in further_parts(file) {
        bytes += part_size(&part)?;
    }
    Ok(bytes)
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

/// The other parts of a model that llama.cpp has split: `NAME-00001-of-00003.gguf` has two more.
fn further_parts(first: &Path) -> Vec<PathBuf> {
    let parse = || {
        let name = first.file_name()?.to_str()?;
        let (stem, count) = name.strip_suffix(".gguf")?.rsplit_once("-00001-of-")?;
        let count = count.parse::<u32>().ok().filter(|_| count.len() == 5 && !count.starts_with('+'))?;
        Some((2..=count).map(|part| first.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf"))).collect())
    };
    parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_models_are_recognised() {
        let names =
            |first: &str| further_parts(Path::new(first)).into_iter().map(|p| p.display().to_string()).collect();
        let parts: Vec<String> = names("/m/a-Q4-00001-of-00003.gguf");
        assert_eq!(parts, ["/m/a-Q4-00002-of-00003.gguf", "/m/a-Q4-00003-of-00003.gguf"]);
        for whole in ["/m/a.gguf", "/m/a-00001-of-00001.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00001-of-+0003.gguf"] {
            assert_eq!(further_parts(Path::new(whole)), Vec::<PathBuf>::new(), "{whole}");
        }
    }

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
