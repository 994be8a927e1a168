//! The model files on this machine: are they whole, and are they in memory before they are needed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use corral_core::gguf::{self, GgufSummary, PartName, parts};
use corral_core::launch::LaunchSpec;
use corral_core::ports::{Job, ModelFiles};
use corral_core::{Code, Error, Result};
use rustix::fs::{Mode, OFlags};

use crate::errors;
use crate::read_ahead::read_ahead;

/// A folder is searched for similar names this far.
const MOST_ENTRIES: usize = 2000;

/// [`ModelFiles`] in the file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalModelFiles;

#[async_trait]
impl ModelFiles for LocalModelFiles {
    async fn check(&self, spec: &LaunchSpec) -> Result<()> {
        let (file, mmproj) = (spec.file.clone(), spec.mmproj.clone());
        let checked = tokio::task::spawn_blocking(move || {
            check_model(&file)?;
            mmproj.as_deref().map_or(Ok(()), check_projector)
        });
        checked.await.unwrap_or_else(|error| Err(errors::defect("checking the model file went wrong").because(error)))
    }

    async fn prefetch(&self, spec: &LaunchSpec, job: &Job) {
        let files: Vec<PathBuf> = parts(&spec.file).into_iter().chain(spec.mmproj.clone()).collect();
        let stop = job.cancelled.child_token();
        // The thread ends as well when nobody waits for it any more.
        let _ends_with_this = stop.clone().drop_guard();
        match tokio::task::spawn_blocking(move || read_ahead(&files, &stop)).await {
            Ok(bytes) => tracing::debug!(bytes, "the model was read ahead"),
            Err(error) => tracing::debug!(%error, "reading a model ahead went wrong"),
        }
    }
}

/// Checks a model's file, with all its parts, from the headers alone.
pub fn check_model(file: &Path) -> Result<()> {
    if let Some(name) = PartName::of(file).filter(|name| name.index != 1) {
        let text = format!("`{}` is part {} of {} of a model", file.display(), name.index, name.count);
        return Err(Error::new(Code::ModelFileInvalid, text)
            .hint(format!("name the first part: `{}`", name.part(file, 1).display())));
    }
    let summary = inspect(file)?;
    if summary.architecture.as_deref() == Some("clip") {
        let text = format!("`{}` is a multimodal projector, not a model", file.display());
        return Err(
            Error::new(Code::ModelFileInvalid, text).hint("it belongs under `mmproj`, next to the model's `file`")
        );
    }
    let rest = parts(file);
    if let Some(split) = summary.split
        && split.count != rest.len() as u64
    {
        let text = format!("`{}` is part {} of {}", file.display(), split.index + 1, split.count);
        return Err(Error::new(
            Code::ModelFileInvalid,
            format!("{text}, but its name does not say where the others are"),
        )
        .hint(format!("give all parts their names back, as in `model-00001-of-{:05}.gguf`", split.count)));
    }
    rest.iter().skip(1).try_for_each(|part| inspect(part).map(|_| ()))?;
    if summary.split.is_some() { read_model(file).map(|_| ()) } else { Ok(()) }
}

/// Checks the file of a multimodal projector, from its header alone.
pub fn check_projector(file: &Path) -> Result<()> {
    inspect(file).map(|_| ())
}

/// Reads what the headers of all files of a model say, and checks that they belong together. Of files of any size only
/// the headers are read.
pub fn read_model(file: &Path) -> Result<gguf::Model> {
    let parts = parts(file);
    let mut headers = Vec::new();
    for part in &parts {
        headers.push(gguf::read(open(part)?).map_err(|error| error.of_file(part))?);
        // Alone if its own header says so, whatever its name does.
        if headers.len() == 1 && headers.iter().all(|header| header.summary.split.is_none()) {
            break;
        }
    }
    gguf::Model::join(headers).map_err(|(index, error)| error.of_file(parts.get(index).map_or(file, PathBuf::as_path)))
}

fn inspect(path: &Path) -> Result<GgufSummary> {
    gguf::inspect(open(path)?).map_err(|error| error.of_file(path))
}

/// Opens a file that is one: opening does not wait for who writes into a pipe, nor does it wake a device.
pub(crate) fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
    let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| unreadable(path, error))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(Error::new(Code::ModelFileInvalid, format!("`{}` is a folder", path.display()))
            .hint(similar(path, path).unwrap_or_else(|| "name the `.gguf` file itself".to_owned())));
    }
    if !kind.is_file() {
        let what = if kind.is_fifo() { "a named pipe" } else { "a device" };
        return Err(Error::new(Code::ModelFileInvalid, format!("`{}` is {what} and not a file", path.display()))
            .hint("llama-server maps its model into memory: name a `.gguf` file on a disk"));
    }
    Ok(file)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        let text = format!("`{shown}` is a link that leads back to itself");
        return Error::new(Code::ModelFileMissing, text).hint("remove the link and download the model again");
    }
    if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
        return Error::new(Code::ModelFileInvalid, format!("`{shown}` is a socket or a device and not a file"))
            .hint("llama-server maps its model into memory: name a `.gguf` file on a disk");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Error::new(Code::ModelFileMissing, format!("`{shown}` cannot be read"))
            .because(error)
            .hint("the user who runs Corral needs the right to read it and to enter its folders");
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    if fs::symlink_metadata(path).is_ok() {
        return Error::new(Code::ModelFileMissing, format!("`{shown}` is a link to a file that is not there"))
            .hint("mount the disk it is on, or download the model again");
    }
    if !folder.is_dir() {
        return Error::new(Code::ModelFileMissing, format!("`{shown}` is not there, nor is its folder"))
            .hint("mount the disk it is on, or set `models_dir` to the folder that holds your models");
    }
    let hint = similar(folder, path).unwrap_or_else(|| format!("`{}` has no `.gguf` file at all", folder.display()));
    Error::new(Code::ModelFileMissing, format!("`{shown}` is not there")).hint(hint)
}

/// The names of the model files in a folder that are most like a wanted one.
fn similar(folder: &Path, wanted: &Path) -> Option<String> {
    let wanted = wanted.file_name()?.to_string_lossy().to_lowercase();
    let mut names: Vec<(f64, String)> = fs::read_dir(folder)
        .ok()?
        .take(MOST_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")))
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .collect();
    names.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.cmp(second)));
    let list: Vec<String> = names.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    (!list.is_empty()).then(|| format!("the folder has {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use corral_testkit::TinyModel;
    use corral_testkit::gguf::{not_a_gguf, truncated};

    use rustix::thread::CapabilitySets;

    use super::*;

    fn spec(file: PathBuf) -> LaunchSpec {
        LaunchSpec { file, ..corral_testkit::launch_spec("m") }
    }

    async fn failure(file: PathBuf) -> Error {
        LocalModelFiles.check(&spec(file)).await.unwrap_err()
    }

    fn hint(error: &Error) -> String {
        error.body().hint.unwrap_or_default()
    }

    #[tokio::test]
    async fn a_whole_file_is_fine_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, cut, page] = ["whole.gguf", "cut.gguf", "page.gguf"].map(|name| dir.path().join(name));
        TinyModel::new(1).write(&whole).unwrap();
        truncated(&cut).unwrap();
        not_a_gguf(&page).unwrap();
        LocalModelFiles.check(&spec(whole.clone())).await.unwrap();
        assert_eq!(failure(cut).await.code(), Code::ModelFileTruncated);
        assert_eq!(failure(page.clone()).await.code(), Code::ModelFileInvalid);
        assert_eq!(failure(dir.path().to_owned()).await.code(), Code::ModelFileInvalid);

        let with_projector = LaunchSpec { mmproj: Some(page), ..spec(whole) };
        assert_eq!(LocalModelFiles.check(&with_projector).await.unwrap_err().code(), Code::ModelFileInvalid);
    }

    #[tokio::test]
    async fn a_missing_file_comes_with_the_names_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Qwen3-8B-Q4_K_M.gguf", "GLM-4.7-Flash-Q4_K_M.gguf", "a.gguf", "b.gguf", "notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let error = failure(dir.path().join("GLM-4.7-Flash-Q4_K_S.gguf")).await;
        assert_eq!(error.code(), Code::ModelFileMissing);
        assert!(hint(&error).starts_with("the folder has `GLM-4.7-Flash-Q4_K_M.gguf`, "), "{error:?}");
        assert!(!hint(&error).contains("notes"), "{error:?}");

        let error = failure(dir.path().join("elsewhere/m.gguf")).await;
        assert!(error.to_string().contains("nor is its folder"), "{error:?}");
        std::os::unix::fs::symlink("/nowhere.gguf", dir.path().join("link.gguf")).unwrap();
        assert!(failure(dir.path().join("link.gguf")).await.to_string().contains("is a link"));
    }

    #[tokio::test]
    async fn each_part_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let part = |index: u32| dir.path().join(format!("m-0000{index}-of-00003.gguf"));
        for index in 1..=2 {
            TinyModel::new(1).write(part(index)).unwrap();
        }
        let error = failure(part(1)).await;
        assert_eq!(error.code(), Code::ModelFileMissing);
        assert!(error.to_string().contains("m-00003-of-00003"), "{error}");
        truncated(part(3)).unwrap();
        assert_eq!(failure(part(1)).await.code(), Code::ModelFileTruncated);
        TinyModel::new(1).write(part(3)).unwrap();
        LocalModelFiles.check(&spec(part(1))).await.unwrap();
        let error = failure(part(2)).await;
        assert!(hint(&error).contains("m-00001-of-00003.gguf"), "{error:?}");
    }

    /// Each of these has been a way to hang or to mislead: they are answered at once, with what is wrong.
    #[tokio::test]
    async fn what_is_no_file_is_never_opened_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe.gguf"), Mode::RUSR | Mode::WUSR).unwrap();
        fs::create_dir(path("folder.gguf")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket.gguf")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("device.gguf")).unwrap();
        std::os::unix::fs::symlink(path("loop.gguf"), path("loop.gguf")).unwrap();
        for (name, code, says) in [
            ("pipe.gguf", Code::ModelFileInvalid, "is a named pipe"),
            ("folder.gguf", Code::ModelFileInvalid, "is a folder"),
            ("socket.gguf", Code::ModelFileInvalid, "is a socket"),
            ("device.gguf", Code::ModelFileInvalid, "is a device"),
            ("loop.gguf", Code::ModelFileMissing, "leads back to itself"),
        ] {
            let error = failure(path(name)).await;
            assert_eq!(error.code(), code, "{error:?}");
            assert!(error.to_string().contains(says) && error.body().hint.is_some(), "{error:?}");
            assert_eq!(read_model(&path(name)).unwrap_err().to_string(), error.to_string());
        }
        // Nor does reading ahead wait for who would write into the pipe.
        LocalModelFiles.prefetch(&spec(path("pipe.gguf")), &Job::unwatched()).await;
    }

    /// Works as a user who is not root, in a thread of its own: root may read everything.
    fn without_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let unprivileged = || {
            let sets = rustix::thread::capabilities(None).unwrap();
            let none = rustix::thread::CapabilitySet::empty();
            rustix::thread::set_capabilities(None, CapabilitySets { effective: none, ..sets }).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap())
    }

    #[test]
    fn a_file_without_the_right_to_read_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (file, inner) = (dir.path().join("m.gguf"), dir.path().join("closed/m.gguf"));
        fs::create_dir(dir.path().join("closed")).unwrap();
        TinyModel::new(1).write(&file).unwrap();
        fs::copy(&file, &inner).unwrap();
        without_privileges(|| check_model(&file).and_then(|()| check_model(&inner))).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
        fs::set_permissions(inner.parent().unwrap(), PermissionsExt::from_mode(0o600)).unwrap();
        for path in [file, inner] {
            let (checked, read) = without_privileges(|| (check_model(&path), read_model(&path)));
            let error = checked.unwrap_err();
            assert_eq!((error.code(), error.to_string()), (Code::ModelFileMissing, read.unwrap_err().to_string()));
            assert!(error.to_string().to_lowercase().contains("permission denied"), "{error:?}");
            assert!(error.body().hint.unwrap().contains("right to read"));
        }
    }

    #[test]
    fn a_model_in_parts_is_read_as_one_and_links_to_itself_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let part = |index: u32| dir.path().join(format!("m-0000{index}-of-00002.gguf"));
        TinyModel::new(1).write(part(1)).unwrap();
        // Its header knows of no second part, so there is none.
        let alone = read_model(&part(1)).unwrap();
        assert_eq!((alone.architecture.as_str(), alone.tensors.len()), ("llama", 21));

        TinyModel::new(1).write_parts([part(1), part(2)]).unwrap();
        let whole = read_model(&part(1)).unwrap();
        assert_eq!(whole.tensors, alone.tensors);
        check_model(&part(1)).unwrap();
        fs::remove_file(part(2)).unwrap();
        assert_eq!(read_model(&part(1)).unwrap_err().code(), Code::ModelFileMissing);
        std::os::unix::fs::symlink(part(1), part(2)).unwrap();
        let error = read_model(&part(1)).unwrap_err();
        assert!(error.to_string().contains("part 1 of 2"), "{error}");
        assert_eq!(check_model(&part(1)).unwrap_err().to_string(), error.to_string());
        // Each is a link to the other.
        fs::remove_file(part(1)).unwrap();
        std::os::unix::fs::symlink(part(2), part(1)).unwrap();
        let error = read_model(&part(1)).unwrap_err();
        assert_eq!(error.code(), Code::ModelFileMissing);
        assert!(error.to_string().contains("m-00001-of-00002.gguf` is a link that leads back to itself"), "{error}");
        assert_eq!(check_model(&part(1)).unwrap_err().to_string(), error.to_string());
    }

    #[tokio::test]
    async fn reading_ahead_ends_in_every_case() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        TinyModel::padded(1, 30_000_000).write(&file).unwrap();
        let job = Job::unwatched();
        LocalModelFiles.prefetch(&spec(file.clone()), &job).await;
        LocalModelFiles.prefetch(&spec(dir.path().join("missing.gguf")), &job).await;
        job.cancelled.cancel();
        LocalModelFiles.prefetch(&spec(file), &job).await;
    }
}
