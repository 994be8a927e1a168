//! `corral list`

use anstyle::Style;
use corral_api::dto::{FitVerdict, FitView, ModelList, ModelState, ModelView};
use corral_core::snapshot::Snapshot;
use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths, read_catalog_or_examples};

use super::Outcome;
use crate::exit;
use crate::output::{BAD, BOLD, BUSY, DIM, GOOD, Output, Paint, remark};
use crate::table::{Cell, table};
use crate::text;
use corral_client::Client;

/// Lists the models: as the daemon knows them, else as the catalog has them.
pub(crate) fn list(env: &Environment, out: &mut Output) -> Outcome {
    let asked = Client::of_home(env).and_then(|client| Ok((client.get("/models")?, client)));
    match asked {
        Ok((body, _)) if out.json => out.raw(&body)?,
        Ok((body, client)) => {
            let models: ModelList = client.parse(&body)?;
            let snapshot: Snapshot = client.parse(&client.get("/status")?)?;
            out.text(&render(&models.models, &snapshot.catalog.path, true, out.paint))?;
            mention(snapshot.catalog.problems.len());
        }
        Err(error) if error.code() == Code::DaemonUnavailable => offline(env, out)?,
        Err(error) => return Err(error.into()),
    }
    Ok(exit::DONE)
}

fn offline(env: &Environment, out: &mut Output) -> Result<(), crate::output::Failed> {
    let paths = Paths::resolve(env)?;
    let (reading, exists) = read_catalog_or_examples(&paths);
    let problems = reading.problems.len();
    let Some(catalog) = reading.catalog else { return Err(broken(reading.problems).into()) };
    let models: Vec<ModelView> = catalog.models.iter().map(|(id, model)| ModelView::of(id, model, None)).collect();
    if out.json {
        out.json(&ModelList { models })?;
    } else {
        out.text(&render(&models, &paths.catalog.display().to_string(), false, out.paint))?;
        mention(problems);
        if !exists {
            let path = paths.catalog.display();
            remark(&format!("these are examples, for there is no {path} yet: `corral serve` makes it"));
        }
    }
    Ok(())
}

/// A catalog that cannot be used at all, as one error.
fn broken(problems: Vec<Error>) -> Error {
    let more = problems.len().saturating_sub(1);
    match problems.into_iter().next() {
        Some(first) if more == 0 => first,
        Some(first) => {
            first.and(&format!("there are {more} more")).hint("`corral check` shows everything that is wrong")
        }
        None => Error::new(Code::Internal, "the catalog was not read, and nothing is wrong with it"),
    }
}

fn mention(problems: usize) {
    if problems > 0 {
        let problems = text::count(problems, "mistake", "mistakes");
        remark(&format!("the catalog has {problems}: `corral check` shows everything that is wrong"));
    }
}

/// The table. Without a daemon (`live`), what a model is doing is not known.
fn render(models: &[ModelView], catalog: &str, live: bool, paint: Paint) -> String {
    if models.is_empty() {
        return format!("no models yet: add one to {catalog}\n");
    }
    let head = |text: &str| Cell::new(text).style(DIM);
    let mut rows = vec![vec![
        head(""),
        head("ID"),
        head("NAME"),
        head("SIZE").right(),
        head("CONTEXT").right(),
        head("FIT"),
        head("STATE"),
        head("ALIASES"),
    ]];
    rows.extend(models.iter().map(|model| {
        let (state, style) = state(model.state, live);
        let loaded = live && !matches!(model.state, ModelState::Available | ModelState::Missing | ModelState::Failed);
        vec![
            Cell::new(if loaded { "●" } else { "" }).style(style),
            Cell::new(model.id.as_str()).style(if loaded { BOLD } else { Style::new() }),
            Cell::new(&model.name),
            Cell::new(model.size_bytes.map_or_else(|| "-".to_owned(), text::size)).right(),
            Cell::new(model.ctx.to_string()).right(),
            fit(model.fit.as_ref()),
            Cell::new(state).style(style),
            Cell::new(model.aliases.join(", ")),
        ]
    }));
    table(&rows, paint)
}

fn fit(fit: Option<&FitView>) -> Cell {
    let Some(fit) = fit else { return Cell::new("-").style(DIM) };
    let style = match fit.verdict {
        FitVerdict::Fits => GOOD,
        FitVerdict::Reduced => BUSY,
        FitVerdict::No => BAD,
    };
    Cell::new(fit.brief().unwrap_or_else(|| "fits".to_owned())).style(style)
}

fn state(state: ModelState, live: bool) -> (&'static str, Style) {
    match state {
        ModelState::Available if !live => ("-", DIM),
        ModelState::Available => ("available", Style::new()),
        ModelState::Missing => ("missing", BAD),
        ModelState::Pulling => ("pulling", BUSY),
        ModelState::Starting => ("starting", BUSY),
        ModelState::Loading => ("loading", BUSY),
        ModelState::Ready => ("ready", GOOD),
        ModelState::Draining => ("draining", BUSY),
        ModelState::Stopping => ("stopping", BUSY),
        ModelState::Failed => ("failed", BAD),
    }
}

#[cfg(test)]
mod tests {
    use corral_core::ModelId;
    use corral_testkit::fakes::fit_view;

    use super::*;

    fn model(id: &str, name: &str, size_bytes: Option<u64>, state: ModelState, aliases: &[&str]) -> ModelView {
        ModelView {
            id: ModelId::new(id).unwrap(),
            name: name.to_owned(),
            description: None,
            file: format!("/m/{id}.gguf"),
            size_bytes,
            ctx: 65_536,
            parallel: 1,
            state,
            fit: None,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            problem: None,
        }
    }

    #[test]
    fn models_stand_in_a_table() {
        let mut models = [
            model("glm", "GLM Flash", Some(18_345_000_000), ModelState::Ready, &["claude-*", "g"]),
            model("tiny", "Tiny", Some(512_000), ModelState::Available, &[]),
            model("lost", "Lost", None, ModelState::Missing, &[]),
        ];
        models[0].fit = Some(fit_view(FitVerdict::Fits));
        models[1].fit = Some(FitView { ctx: 8192, ..fit_view(FitVerdict::Reduced) });
        let live = concat!(
            "   ID    NAME           SIZE  CONTEXT  FIT         STATE      ALIASES\n",
            "●  glm   GLM Flash   18.3 GB    65536  fits        ready      claude-*, g\n",
            "   tiny  Tiny       512.0 kB    65536  8k context  available\n",
            "   lost  Lost              -    65536  -           missing\n",
        );
        assert_eq!(render(&models, "/c", true, Paint(false)), live);
        models[1].fit = None;
        let offline = concat!(
            "  ID    NAME      SIZE  CONTEXT  FIT  STATE    ALIASES\n",
            "  tiny  Tiny  512.0 kB    65536  -    -\n",
            "  lost  Lost         -    65536  -    missing\n",
        );
        assert_eq!(render(&models[1..], "/c", false, Paint(false)), offline);
    }

    #[test]
    fn an_empty_catalog_says_where_models_go() {
        assert_eq!(render(&[], "/c/models.toml", true, Paint(false)), "no models yet: add one to /c/models.toml\n");
    }
}
