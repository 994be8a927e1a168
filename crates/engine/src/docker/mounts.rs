//! Where a model's files are inside its container.

use std::path::{Path, PathBuf};

use corral_core::launch::LaunchSpec;
use corral_core::{Code, Error, Result};

use crate::errors;

/// The models folder inside a container.
pub(super) const MODELS: &str = "/models";
/// Files from elsewhere inside a container.
const ELSEWHERE: &str = "/files";

/// A file or folder that a container sees, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    /// The real path outside, without symbolic links.
    pub source: PathBuf,
    /// The path inside.
    pub target: String,
}

/// A model's files as its container sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelMounts {
    /// What is bound, read-only.
    pub binds: Vec<Bind>,
    /// The model file inside.
    pub model: String,
    /// The multimodal projector inside.
    pub mmproj: Option<String>,
}

/// Works out the binds. `canonical` follows symbolic links.
///
/// The models folder is bound as a whole. A file that is not really in it, whether it has a path of its own or is a
/// link into a download cache, is bound by itself: the rest of its folder is nobody's business.
pub(super) fn plan(spec: &LaunchSpec, canonical: impl Fn(&Path) -> std::io::Result<PathBuf>) -> Result<ModelMounts> {
    let missing = |path: &Path, error: std::io::Error| {
        Error::new(Code::ModelFileMissing, format!("{} cannot be opened", path.display()))
            .because(error)
            .hint("the user who runs Corral needs the right to read it and to enter its folders")
    };
    let mut mounts = ModelMounts { binds: Vec::new(), model: String::new(), mmproj: None };
    // A catalog can name all its models absolutely; then there may be no models folder.
    let folder = canonical(&spec.models_dir).ok();
    if let Some(folder) = &folder {
        mounts.binds.push(Bind { source: folder.clone(), target: MODELS.to_owned() });
    }
    let mut place = |file: &Path, group: &str| -> Result<String> {
        let mut first = None;
        for part in corral_core::gguf::parts(file) {
            let real = canonical(&part).map_err(|error| missing(&part, error))?;
            let within = folder.as_deref().filter(|folder| {
                // In the folder by its name as well as in truth: inside, a link would point nowhere.
                part.strip_prefix(&spec.models_dir).is_ok_and(|rest| folder.join(rest) == real)
            });
            let target = if let Some(folder) = within {
                format!("{MODELS}/{}", utf8(real.strip_prefix(folder).unwrap_or(&real))?)
            } else {
                let name = part.file_name().map_or(part.as_path(), Path::new);
                let target = format!("{ELSEWHERE}/{group}/{}", utf8(name)?);
                mounts.binds.push(Bind { source: real, target: target.clone() });
                target
            };
            first.get_or_insert(target);
        }
        first.ok_or_else(|| errors::defect("a model without files"))
    };
    mounts.model = place(&spec.file, "model")?;
    mounts.mmproj = spec.mmproj.as_deref().map(|file| place(file, "mmproj")).transpose()?;
    Ok(mounts)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let message = format!("the name of {} is not UTF-8, so Docker cannot be told it", path.display());
        Error::new(Code::ModelInvalid, message).hint("rename the file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_testkit::launch_spec;

    /// Follows the given links; everything else is what it seems, `gone` excepted.
    fn canonical<'a>(links: &'a [(&'a str, &'a str)]) -> impl Fn(&Path) -> std::io::Result<PathBuf> + 'a {
        |path| match links.iter().find_map(|(from, to)| Some(Path::new(to).join(path.strip_prefix(from).ok()?))) {
            _ if path.ends_with("gone") => Err(std::io::ErrorKind::NotFound.into()),
            // Joining nothing would leave a slash at the end.
            Some(real) => Ok(real.components().collect()),
            None => Ok(path.to_owned()),
        }
    }

    fn planned(change: impl FnOnce(&mut LaunchSpec), links: &[(&str, &str)]) -> (Vec<String>, String, Option<String>) {
        let mut spec = launch_spec("m");
        change(&mut spec);
        let mounts = plan(&spec, canonical(links)).expect("a plan");
        let binds = mounts.binds.iter().map(|bind| format!("{}:{}", bind.source.display(), bind.target)).collect();
        (binds, mounts.model, mounts.mmproj)
    }

    #[test]
    fn a_file_in_the_folder_needs_only_the_folder() {
        let expected = (vec!["/srv/models:/models".to_owned()], "/models/m.gguf".to_owned(), None);
        assert_eq!(planned(|_| (), &[]), expected);
        let deep = planned(|spec| spec.file = PathBuf::from("/srv/models/a/b.gguf"), &[]);
        assert_eq!(deep.1, "/models/a/b.gguf");
    }

    #[test]
    fn a_folder_that_is_a_link_is_bound_as_what_it_is() {
        let (binds, model, _) = planned(|_| (), &[("/srv/models", "/data/m")]);
        assert_eq!((binds, model.as_str()), (vec!["/data/m:/models".to_owned()], "/models/m.gguf"));
    }

    #[test]
    fn a_link_out_of_the_folder_is_bound_by_itself() {
        let (binds, model, _) = planned(|_| (), &[("/srv/models/m.gguf", "/cache/blobs/abc")]);
        assert_eq!(binds, ["/srv/models:/models", "/cache/blobs/abc:/files/model/m.gguf"]);
        assert_eq!(model, "/files/model/m.gguf", "it keeps the name it has in the folder");
    }

    #[test]
    fn a_link_within_the_folder_is_bound_by_itself_too() {
        let (binds, ..) = planned(|_| (), &[("/srv/models/m.gguf", "/srv/models/real.gguf")]);
        assert_eq!(binds, ["/srv/models:/models", "/srv/models/real.gguf:/files/model/m.gguf"]);
    }

    #[test]
    fn parts_stay_together_and_a_projector_stays_apart() {
        let (binds, model, mmproj) = planned(
            |spec| {
                spec.file = PathBuf::from("/big/x-00001-of-00002.gguf");
                spec.mmproj = Some(PathBuf::from("/big/mm.gguf"));
            },
            &[],
        );
        assert_eq!(
            binds,
            [
                "/srv/models:/models",
                "/big/x-00001-of-00002.gguf:/files/model/x-00001-of-00002.gguf",
                "/big/x-00002-of-00002.gguf:/files/model/x-00002-of-00002.gguf",
                "/big/mm.gguf:/files/mmproj/mm.gguf",
            ]
        );
        assert_eq!(model, "/files/model/x-00001-of-00002.gguf");
        assert_eq!(mmproj.as_deref(), Some("/files/mmproj/mm.gguf"));
    }

    #[test]
    fn a_missing_folder_is_no_trouble_and_a_missing_file_is() {
        let (binds, ..) = planned(
            |spec| {
                spec.models_dir = PathBuf::from("/srv/gone");
                spec.file = PathBuf::from("/big/x.gguf");
            },
            &[],
        );
        assert_eq!(binds, ["/big/x.gguf:/files/model/x.gguf"]);
        let mut spec = launch_spec("m");
        spec.file = PathBuf::from("/srv/models/gone");
        assert_eq!(plan(&spec, canonical(&[])).expect_err("gone").code(), Code::ModelFileMissing);
    }
}
