//! `corral check`

use std::path::PathBuf;

use corral_core::catalog::{Catalog, Surroundings};
use corral_core::{Code, Error, ErrorBody, Result};
use corral_daemon::{Environment, Paths, check_model, check_projector, ensure_catalog};
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::Outcome;
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
            .hint("see to its path and its permissions")
    })?;
    let reading = Catalog::read(&text, surroundings);
    let mut problems: Vec<ErrorBody> = reading.problems.iter().map(Error::body).collect();
    let mut models = 0;
    let places = Places::new(&text, &file);
    for (id, model) in reading.catalog.iter().flat_map(|catalog| &catalog.models) {
        let file = ("file", check_model(&model.launch.file));
        let mmproj = model.launch.mmproj.as_deref().map(|path| ("mmproj", check_projector(path)));
        let wrong = [Some(file), mmproj].into_iter().flatten().filter_map(|(key, checked)| {
            let error = checked.err()?.body();
            let message = format!("{}: {}", places.of(id.as_str(), key), error.message);
            Some(ErrorBody { message, ..error })
        });
        let before = problems.len();
        problems.extend(wrong);
        models += usize::from(problems.len() == before);
    }
    Ok(Report { file, models, problems })
}

/// Finds the lines of a catalog that is known to be sound.
struct Places<'a> {
    /// Where each line but the first begins.
    breaks: Vec<usize>,
    file: &'a str,
    root: Option<DeTable<'a>>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str, file: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { breaks, file, root: DeTable::parse(text).ok().map(toml::Spanned::into_inner) }
    }

    /// For instance `models.toml:14: models.a.file`.
    fn of(&self, model: &str, key: &str) -> String {
        let start = |table: &DeValue<'_>| Some(table.as_table()?.get(key)?.span().start);
        let root = self.root.as_ref();
        let own = || start(root?.get("models")?.get_ref().as_table()?.get(model)?.get_ref());
        let usual = || start(root?.get("defaults")?.get_ref());
        let offset = own().or_else(usual).unwrap_or(0);
        let line = self.breaks.partition_point(|start| *start <= offset) + 1;
        let bare = model.bytes().all(|byte| byte != b'.');
        let model = if bare { model.to_owned() } else { format!("\"{model}\"") };
        format!("{}:{line}: models.{model}.{key}", self.file)
    }
}
