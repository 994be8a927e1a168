//! The files of a model, as far as their names and headers tell without a daemon.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use corral_core::{Code, Error, Result, gguf};

/// All files of a model, that one included: of one that llama.cpp has split, `NAME-00001-of-00003.gguf` is the first.
fn parts(first: &Path) -> Vec<PathBuf> {
    let others = || {
        let (stem, count) = first.file_name()?.to_str()?.strip_suffix(".gguf")?.rsplit_once("-00001-of-")?;
        let count: u32 = Some(count).filter(|count| count.len() == 5 && !count.starts_with('+'))?.parse().ok()?;
        Some((2..=count).map(move |part| first.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf"))))
    };
    std::iter::once(first.to_owned()).chain(others().into_iter().flatten()).collect()
}

/// The size of a model in bytes, all parts together.
pub(crate) fn size(first: &Path) -> Result<u64> {
    parts(first).iter().map(|part| metadata(part).map(|metadata| metadata.len())).sum()
}

/// Whether each file of a model is there, whole, and a GGUF file; the error is of the first that is not.
pub(crate) fn check(first: &Path) -> Result<()> {
    parts(first).iter().try_for_each(|part| {
        metadata(part)?;
        let file = File::open(part).map_err(|error| unreadable(part, error))?;
        gguf::inspect(file).map(|_| ()).map_err(|error| error.of_file(part))
    })
}

fn metadata(path: &Path) -> Result<Metadata> {
    let metadata = path.metadata().map_err(|error| unreadable(path, error))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(Error::new(Code::ModelFileInvalid, format!("`{}` is not a file", path.display()))
        .hint("`file` names the `.gguf` file itself"))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::new(Code::ModelFileMissing, format!("there is no file `{shown}`"))
                .hint("download it, or correct `file` or `models_dir` in models.toml")
        }
        _ => Error::new(Code::ModelFileMissing, format!("`{shown}` cannot be read"))
            .because(error)
            .hint("the user who runs Corral needs the right to read it and to enter its folders"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_models_are_recognised() {
        let names = |first: &str| parts(Path::new(first)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("/m/a-00001-of-00002.gguf"), ["/m/a-00001-of-00002.gguf", "/m/a-00002-of-00002.gguf"]);
        for whole in ["/m/a.gguf", "/m/a-00001-of-00001.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00001-of-+0003.gguf"] {
            assert_eq!(names(whole), [whole]);
        }
    }
}
