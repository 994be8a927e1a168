//! Errors that more than one part of this crate makes: each with a hint.

use std::path::Path;
use std::time::Duration;

use corral_core::{Code, Error, ModelId};

use crate::logs::{self, Line};

/// A newer request ended the work on an older one.
pub(crate) fn superseded() -> Error {
    Error::new(Code::Superseded, "a newer request took this one's place").hint("ask again if this is still wanted")
}

/// A model was not ready in time.
pub(crate) fn too_slow(model: &ModelId, timeout: Duration, lines: &[Line]) -> Error {
    Error::new(Code::LoadTimeout, format!("`{model}` was not ready within {} s", timeout.as_secs()))
        .hint(format!("set a longer `load_timeout` for `{model}` in models.toml, or move its file to a faster disk"))
        .log(logs::relevant(lines))
}

/// A server has ended, and nothing tells why.
pub(crate) fn end_untold(model: &ModelId) -> Error {
    Error::new(
        Code::EngineFailed,
        format!("llama-server ended while it loaded `{model}`, and the engine does not say why"),
    )
    .hint("see whether `docker ps -a` answers, and try again")
}

/// A file, pipe or folder of Corral's own cannot be made, read or written; `what` says which of these.
pub(crate) fn unusable(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{what} `{}`", path.display()))
        .because(error)
        .hint("its folder must be this user's own, on a disk that has room: `ls -ld` and `df -h` show that")
}

/// What only a defect in Corral can be the reason for.
pub(crate) fn defect(what: &str) -> Error {
    Error::new(Code::Internal, what)
        .hint("this is a defect in Corral: please report it, with what `corral serve` wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_hint() {
        let model = ModelId::new("m").unwrap();
        let io = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let slow = too_slow(&model, Duration::from_secs(9), &logs::parse("W still reading"));
        assert_eq!(slow.to_string(), "`m` was not ready within 9 s");
        assert_eq!(slow.body().log, ["still reading"]);
        for error in [
            superseded(),
            slow,
            end_untold(&model),
            unusable("cannot write", Path::new("/x"), io()),
            defect("an odd thing"),
        ] {
            assert!(error.body().hint.is_some(), "{error}");
        }
    }
}
