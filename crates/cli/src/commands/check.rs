//! `corral check`

use std::path::{Path, PathBuf};

use corral_core::catalog::{Catalog, Surroundings};
use corral_core::{Code, Error, ErrorBody, Result};
use corral_daemon::{Environment, Paths, ensure_catalog};
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::{Outcome, model_files};
use crate::exit;
use crate::output::{GOOD, Output, error_text, remark};
use crate::text;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// The file that was checked.
    file: String,
    /// Number of models that can be used.
    models: usize,
    /// Everything that is wrong.
    problems: Vec<ErrorBody>,
}

/// Checks a catalog, the user's own where no other is named.
pub(crate) fn check(file: Option<PathBuf>, env: &Environment, out: &mut Output) -> Outcome {
    let paths = Paths::resolve(env)?;
    if file.is_none() && ensure_catalog(&paths)? {
        remark(&format!("made {} with examples: edit it to name your models", paths.catalog.display()));
    }
    let surroundings = Surroundings {
        path: file.unwrap_or_else(|| paths.catalog.clone()),
        home: paths.home,
        models_dir: paths.models_dir,
    };
    let report = report(&surroundings)?;
    if out.json {
        out.json(&report)?;
    } else {
        for problem in &report.problems {
            out.line(&error_text(problem, out.paint))?;
        }
        let models = text::count(report.models, "model", "models");
        out.line(&match report.problems.len() {
            0 => format!("{}: {} is right, with {models}", out.paint.paint(GOOD, "ok"), report.file),
            number => {
                let mistakes = text::count(number, "mistake", "mistakes");
                format!("{}: {mistakes}; {models} can be used", report.file)
            }
        })?;
    }
    Ok(if report.problems.is_empty() { exit::DONE } else { exit::CONFIG })
}

fn report(surroundings: &Surroundings) -> Result<Report> {
    let file = surroundings.path.display().to_string();
    let text = std::fs::read_to_string(&surroundings.path).map_err(|error| {
        Error::new(Code::CatalogInvalid, format!("cannot read {file}"))
            .because(error)
            .hint("`corral check` without a file checks your own catalog")
    })?;
    let reading = Catalog::read(&text, surroundings);
    let mut problems: Vec<ErrorBody> = reading.problems.iter().map(Error::body).collect();
    let mut models = 0;
    if let Some(catalog) = &reading.catalog {
        let before = problems.len();
        let places = Places::new(&text, &file);
        for (id, model) in &catalog.models {
            let wrong = [("file", Some(&model.launch.file)), ("mmproj", model.launch.mmproj.as_ref())];
            let wrong = wrong.into_iter().filter_map(|(key, path)| wrong_file(&places, id.as_str(), key, path?));
            problems.extend(wrong);
        }
        let bad = problems.get(before..).unwrap_or_default().len();
        models = catalog.models.len().saturating_sub(bad);
    }
    Ok(Report { file, models, problems })
}

fn wrong_file(places: &Places<'_>, model: &str, key: &str, path: &Path) -> Option<ErrorBody> {
    let error = model_files::check(path).err()?.body();
    let message = format!("{}: {}", places.of(model, key), error.message);
    Some(ErrorBody { message, ..error })
}

/// Finds the lines of a catalog that is known to be sound.
struct Places<'a> {
    text: &'a str,
    file: &'a str,
    root: Option<DeTable<'a>>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file, root: DeTable::parse(text).ok().map(toml::Spanned::into_inner) }
    }

    /// For instance `models.toml:14: models.a.file`.
    fn of(&self, model: &str, key: &str) -> String {
        let table = |value: &'_ DeValue<'a>, key: &str| value.as_table()?.get(key).map(|found| found.span().start);
        let root = self.root.as_ref();
        let entry = root.and_then(|root| root.get("models")?.get_ref().as_table()?.get(model));
        let offset = entry
            .and_then(|entry| table(entry.get_ref(), key))
            .or_else(|| table(root?.get("defaults")?.get_ref(), key))
            .unwrap_or(0);
        let line = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let bare = model.bytes().all(|byte| byte != b'.');
        let model = if bare { model.to_owned() } else { format!("\"{model}\"") };
        format!("{}:{line}: models.{model}.{key}", self.file)
    }
}
