//! `models.toml`: replaced whole, or changed key by key.

use std::path::Path;

use corral_core::catalog::{AutoSwitch, Catalog, Engine, Gateway};
use corral_core::configuration::{CatalogFile, CatalogPatch, EngineChoice, Problem, ServerChoice};
use corral_core::launch::Runtime;
use corral_core::{Code, Error, Result};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use toml_edit::{DocumentMut, Item, Table};

use super::edit::{set, value_of};
use super::write::replace;
use crate::catalog_file::read_text;
use crate::hex::hex;
use crate::paths::Paths;

/// The text on disk.
pub(super) fn text(paths: &Paths) -> Result<String> {
    let path = paths.catalog.display();
    let bytes = std::fs::read(&paths.catalog).map_err(|error| {
        Error::new(Code::Io, format!("cannot read {path}")).because(error).hint("see to the file and its permissions")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        Error::new(Code::CatalogInvalid, format!("{path} is not UTF-8"))
            .because(error.utf8_error())
            .hint("mend it in an editor; it is left as it is")
    })
}

/// All that is told of this text.
pub(super) fn of_text(paths: &Paths, text: String, in_force: &Catalog) -> CatalogFile {
    let (engine, server) = choices(&text, paths).unwrap_or_else(|| of_catalog(in_force));
    let problems = check(paths, &text);
    CatalogFile { path: paths.catalog.display().to_string(), version: version(&text), text, problems, engine, server }
}

/// What is wrong with it.
pub(super) fn check(paths: &Paths, text: &str) -> Vec<Problem> {
    read_text(paths, text).problems.iter().map(Problem::from).collect()
}

/// Replaces the text of this version.
pub(super) fn put(paths: &Paths, new: &str, version: &str) -> Result<String> {
    let old = text(paths)?;
    if self::version(&old) != version {
        return Err(Error::new(Code::CatalogChanged, format!("{} has changed meanwhile", paths.catalog.display()))
            .hint("read it again, and make the change in what is there now"));
    }
    save(paths, &old, new.to_owned())
}

/// Sets keys of the text.
pub(super) fn patch(paths: &Paths, patch: &CatalogPatch) -> Result<String> {
    let old = text(paths)?;
    let mut document: DocumentMut = old.parse().map_err(|_| unusable(paths, &old))?;
    let engine = &patch.engine;
    let keys = [
        ("engine", "runtime", value_of(engine.runtime)),
        ("engine", "image", value_of(&engine.image)),
        ("engine", "binary", value_of(&engine.binary)),
        ("engine", "models_dir", value_of(&engine.models_dir)),
        ("gateway", "auto_switch", value_of(patch.server.auto_switch)),
    ];
    for (table, key, value) in keys {
        let Some(value) = value else { continue };
        let here = document.entry(table).or_insert_with(|| Item::Table(Table::new()));
        let table = here.as_table_like_mut().ok_or_else(|| unusable(paths, &old))?;
        if table.get(key).and_then(Item::as_str) != value.as_str() {
            set(table, key, Some(value));
        }
    }
    save(paths, &old, document.to_string())
}

/// Writes a text that a catalog can be made of.
fn save(paths: &Paths, old: &str, new: String) -> Result<String> {
    if read_text(paths, &new).catalog.is_none() {
        return Err(unusable(paths, &new));
    }
    if new != old {
        replace(&paths.catalog, new.as_bytes())?;
    }
    Ok(new)
}

/// Why no catalog can be made of a text.
fn unusable(paths: &Paths, text: &str) -> Error {
    let problems = read_text(paths, text).problems;
    // One bad model among good ones is none of the reasons.
    let reasons: Vec<&Error> = problems.iter().filter(|problem| problem.code() == Code::CatalogInvalid).collect();
    let Some(first) = reasons.first() else {
        return Error::new(Code::CatalogInvalid, "the catalog cannot be used; nothing was written");
    };
    let more = match reasons.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let error = Error::new(Code::CatalogInvalid, format!("{first}{more}; nothing was written"));
    match first.body().hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Changes with the text.
fn version(text: &str) -> String {
    hex(&Sha256::digest(text)[..16])
}

/// What the text says, and else the defaults; none where it is no TOML.
fn choices(text: &str, paths: &Paths) -> Option<(EngineChoice, ServerChoice)> {
    let document: DocumentMut = text.parse().ok()?;
    let written = |table: &str, key: &str| document.get(table)?.get(key)?.as_str().map(str::to_owned);
    let usual = Engine::default();
    let engine = EngineChoice {
        runtime: written("engine", "runtime").and_then(choice::<Runtime>).unwrap_or(usual.runtime),
        image: written("engine", "image").unwrap_or(usual.image),
        binary: written("engine", "binary").unwrap_or_else(|| shown(&usual.binary)),
        models_dir: written("engine", "models_dir").unwrap_or_else(|| shown(&paths.models_dir)),
    };
    let auto_switch = written("gateway", "auto_switch").and_then(choice::<AutoSwitch>);
    let server = ServerChoice { auto_switch: auto_switch.unwrap_or(Gateway::default().auto_switch) };
    Some((engine, server))
}

fn of_catalog(catalog: &Catalog) -> (EngineChoice, ServerChoice) {
    let Engine { runtime, image, binary, models_dir } = catalog.engine.clone();
    let engine = EngineChoice { runtime, image, binary: shown(&binary), models_dir: shown(&models_dir) };
    (engine, ServerChoice { auto_switch: catalog.gateway.auto_switch })
}

fn choice<T: DeserializeOwned>(text: String) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use corral_core::configuration::{EnginePatch, ServerPatch};

    use super::*;

    const TEXT: &str =
        "# my models\nschema = 1\n\n[engine]\nimage = \"a:1\"  # pinned\n\n[models.a]\nfile = \"a.gguf\" # the one\n";

    fn home(text: &str) -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
        std::fs::create_dir_all(&paths.config_dir).unwrap();
        std::fs::write(&paths.catalog, text).unwrap();
        (folder, paths)
    }

    fn image(image: &str) -> CatalogPatch {
        let engine = EnginePatch { image: Some(image.to_owned()), ..EnginePatch::default() };
        CatalogPatch { engine, ..CatalogPatch::default() }
    }

    #[test]
    fn keys_are_set_in_place() {
        let (_folder, paths) = home(TEXT);
        assert_eq!(patch(&paths, &CatalogPatch::default()).unwrap(), TEXT);
        assert_eq!(patch(&paths, &image("a:1")).unwrap(), TEXT);
        assert_eq!(patch(&paths, &image("b:2")).unwrap(), TEXT.replace("a:1", "b:2"));
        let server = ServerPatch { auto_switch: Some(AutoSwitch::Never) };
        let engine = EnginePatch {
            models_dir: Some("~/m".to_owned()),
            runtime: Some(Runtime::Process),
            ..EnginePatch::default()
        };
        let text = patch(&paths, &CatalogPatch { engine, server }).unwrap();
        let told = of_text(&paths, text.clone(), &Catalog::default());
        assert_eq!((told.engine.runtime, told.engine.models_dir.as_str()), (Runtime::Process, "~/m"));
        assert_eq!((told.server.auto_switch, told.problems), (AutoSwitch::Never, vec![]));
        assert!(text.contains("# pinned\nmodels_dir") || text.contains("# pinned\nruntime"), "{text}");
        assert!(text.starts_with("# my models\n") && text.contains("# the one\n"), "{text}");
        assert_eq!(std::fs::read_to_string(&paths.catalog).unwrap(), text);
    }

    #[test]
    fn inline_and_dotted_tables_do_as_well() {
        for text in ["schema = 1\nengine = { image = \"a:1\" }\n", "schema = 1\nengine.image = \"a:1\"\n"] {
            let (_folder, paths) = home(text);
            assert_eq!(patch(&paths, &image("b:2")).unwrap(), text.replace("a:1", "b:2"));
        }
    }

    #[test]
    fn what_makes_no_catalog_is_not_written() {
        let (_folder, paths) = home(TEXT);
        let refused = |error: Error| {
            assert_eq!(error.code(), Code::CatalogInvalid);
            assert!(error.to_string().ends_with("nothing was written"), "{error}");
            assert_eq!(std::fs::read_to_string(&paths.catalog).unwrap(), TEXT);
        };
        refused(patch(&paths, &image("-x")).unwrap_err());
        for text in ["", "schema = 2\n", "schema = 1\nx = =\n", "schema = 1\nserver = 1\n"] {
            refused(put(&paths, text, &version(TEXT)).unwrap_err());
        }
        let one_bad = format!("{TEXT}[models.b]\nfile = 1\n");
        assert_eq!(put(&paths, &one_bad, &version(TEXT)).unwrap(), one_bad, "one bad model takes nothing down");
        let error = put(&paths, TEXT, &version(TEXT)).unwrap_err();
        assert_eq!(error.code(), Code::CatalogChanged);
        assert_eq!(std::fs::read_to_string(&paths.catalog).unwrap(), one_bad);
    }

    #[test]
    fn what_is_no_text_is_left_alone() {
        let (_folder, paths) = home("");
        std::fs::write(&paths.catalog, b"# \xff\n").unwrap();
        assert_eq!(text(&paths).unwrap_err().code(), Code::CatalogInvalid);
        assert_eq!(put(&paths, TEXT, "").unwrap_err().code(), Code::CatalogInvalid);
        assert_eq!(std::fs::read(&paths.catalog).unwrap(), b"# \xff\n");
    }

    #[test]
    fn a_broken_text_is_told_with_what_is_in_force() {
        let (_folder, paths) = home("= 1");
        let told = of_text(&paths, text(&paths).unwrap(), &Catalog::default());
        assert_eq!((told.problems[0].line, told.engine.image), (Some(1), Engine::default().image));
        assert_eq!(patch(&paths, &image("b:2")).unwrap_err().code(), Code::CatalogInvalid);
    }
}
