//! Files that are watched through every link that leads to them.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// An editor writes a file in several steps; this long without another one ends them.
const SETTLE: Duration = Duration::from_millis(50);

/// Links that the kernel follows in one path; more of them are a circle.
const MOST_LINKS: usize = 40;

/// The watch over some files, there or not.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    /// What decides which files they are and what is in them, as the watcher's thread compares it with its events.
    places: Arc<Mutex<BTreeSet<PathBuf>>>,
    folders: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl WatchedFiles {
    /// Watches nothing before the first [`Self::follow`].
    pub(crate) fn new(paths: Vec<PathBuf>) -> notify::Result<Self> {
        // One waiting message is enough: the files are read as they are then.
        let (notices, changes) = mpsc::channel(1);
        let places = Arc::<Mutex<BTreeSet<PathBuf>>>::default();
        let wanted = places.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let relevant = event.map_or(true, |event| {
                let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                let about = event.paths.iter().any(|path| wanted.contains(path));
                // A lost event is as good a reason to look as any.
                event.need_rescan() || (about && !matches!(event.kind, EventKind::Access(_)))
            });
            if relevant {
                let _ = notices.try_send(());
            }
        })?;
        Ok(Self { paths, watcher, places, folders: BTreeSet::new(), changes })
    }

    /// Watches what the paths lead to now. What is read after this is either new or followed by a change.
    pub(crate) fn follow(&mut self) -> notify::Result<()> {
        let mut places = self.all_places();
        loop {
            let watched = self.watch(&places);
            let now = self.all_places();
            // A link that was changed before it was watched has told nobody.
            if now == places {
                return watched;
            }
            places = now;
        }
    }

    fn all_places(&self) -> BTreeSet<PathBuf> {
        self.paths.iter().flat_map(|path| places(path)).collect()
    }

    fn watch(&mut self, places: &BTreeSet<PathBuf>) -> notify::Result<()> {
        // The folders are watched, not the files: an editor puts a new file in the old one's place.
        let folders: BTreeSet<_> = places.iter().filter_map(|place| place.parent()).map(Path::to_owned).collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places.union(&folders).cloned().collect();
        for folder in self.folders.difference(&folders) {
            // One that is gone has lost its watch already.
            let _ = self.watcher.unwatch(folder);
        }
        self.folders = folders;
        // Also what is known: a folder that was made anew has no watch yet.
        self.folders.iter().try_for_each(|folder| self.watcher.watch(folder, RecursiveMode::NonRecursive))
    }

    /// Waits for a change, and until it is whole. False when there will be none any more.
    pub(crate) async fn changed(&mut self) -> bool {
        let changed = self.changes.recv().await.is_some();
        while let Ok(Some(())) = tokio::time::timeout(SETTLE, self.changes.recv()).await {}
        changed
    }
}

/// Calls `look` at once, and again whenever one of these files may have changed, where nobody waits for it. Ends when
/// `look` says that nobody wants to know any more, or where nothing can be watched.
pub async fn whenever_changed(paths: Vec<PathBuf>, look: impl FnMut() -> bool + Send + 'static) {
    let unnoticed = |error| tracing::warn!(%error, "changes of some files are noticed late");
    let (mut watched, mut look) = match WatchedFiles::new(paths) {
        Ok(watched) => (watched, look),
        Err(error) => return unnoticed(error),
    };
    loop {
        // What leads to the files is on a disk, too.
        let looked = tokio::task::spawn_blocking(move || {
            let followed = watched.follow();
            let goes_on = look();
            (watched, look, followed, goes_on)
        });
        let Ok((again, look_again, followed, goes_on)) = looked.await else { return };
        (watched, look) = (again, look_again);
        if let Err(error) = followed {
            unnoticed(error);
        }
        if !goes_on || !watched.changed().await {
            return;
        }
    }
}

/// Every link on the way to a file, and the file or the first folder that is not there, each in a folder that is no
/// link: events have such paths.
fn places(path: &Path) -> BTreeSet<PathBuf> {
    let (mut places, mut links) = (BTreeSet::new(), 0);
    let mut real = PathBuf::from("/");
    let mut ahead: VecDeque<_> = path.components().map(owned).collect();
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            real.pop();
            continue;
        }
        // `/` starts over.
        let next = real.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                places.insert(next);
                for part in target.components().rev().map(owned) {
                    ahead.push_front(part);
                }
            }
            _ if next.symlink_metadata().is_err() => {
                real = next;
                break;
            }
            _ => real = next,
        }
    }
    places.insert(real);
    places
}

fn owned(part: Component<'_>) -> OsString {
    part.as_os_str().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder that is reached by no link, and the catalog's place in it.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    /// Carries out a change and waits until the file has been read with this text in it after a notice.
    async fn noticed(watched: &mut WatchedFiles, what: &str, change: impl FnOnce()) {
        let path = watched.paths[0].clone();
        change();
        let seen = async {
            loop {
                assert!(watched.changed().await, "the watcher has ended");
                watched.follow().unwrap();
                if fs::read_to_string(&path).unwrap_or_default() == what {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap_or_else(|_| panic!("{what} was not noticed"));
    }

    fn watch(path: &Path) -> WatchedFiles {
        let mut watched = WatchedFiles::new(vec![path.to_owned()]).unwrap();
        watched.follow().unwrap();
        watched
    }

    fn renamed_over(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    /// As `ln -sfn` does it.
    fn points_to(link: &Path, target: impl AsRef<Path>) {
        let new = link.with_extension("link");
        symlink(target, &new).unwrap();
        fs::rename(&new, link).unwrap();
    }

    #[tokio::test]
    async fn every_way_of_saving_is_noticed() {
        let (_folder, path) = folder();
        let file = path.join("models.toml");
        let mut watched = watch(&file);
        noticed(&mut watched, "made", || fs::write(&file, "made").unwrap()).await;
        noticed(&mut watched, "in place", || fs::write(&file, "in place").unwrap()).await;
        noticed(&mut watched, "renamed over", || renamed_over(&file, "renamed over")).await;
        noticed(&mut watched, "renamed again", || renamed_over(&file, "renamed again")).await;
        noticed(&mut watched, "", || fs::remove_file(&file).unwrap()).await;
        noticed(&mut watched, "made anew", || fs::write(&file, "made anew").unwrap()).await;
    }

    #[tokio::test]
    async fn a_link_is_followed_to_where_it_points_now() {
        let (_folder, path) = folder();
        let [link, v1, v2] = ["home/models.toml", "v1/models.toml", "v2/other.toml"].map(|name| path.join(name));
        for file in [&link, &v1, &v2] {
            fs::create_dir(file.parent().unwrap()).unwrap();
        }
        fs::write(&v1, "v1").unwrap();
        fs::write(&v2, "v2").unwrap();
        symlink(&v1, &link).unwrap();
        let mut watched = watch(&link);
        noticed(&mut watched, "v1 edited", || fs::write(&v1, "v1 edited").unwrap()).await;
        noticed(&mut watched, "v2", || points_to(&link, "../v2/other.toml")).await;
        noticed(&mut watched, "v2 edited", || fs::write(&v2, "v2 edited").unwrap()).await;
        noticed(&mut watched, "v2 renamed over", || renamed_over(&v2, "v2 renamed over")).await;
        noticed(&mut watched, "no link any more", || renamed_over(&link, "no link any more")).await;
        fs::write(&v2, "nobody looks").unwrap();
        noticed(&mut watched, "edited", || fs::write(&link, "edited").unwrap()).await;
        assert_eq!(watched.folders, BTreeSet::from([path.join("home")]), "what nothing leads to is not watched");
    }

    #[tokio::test]
    async fn links_between_and_linked_folders_are_followed() {
        let (_folder, path) = folder();
        for release in ["r1", "r2"] {
            fs::create_dir(path.join(release)).unwrap();
            fs::write(path.join(release).join("models.toml"), release).unwrap();
        }
        let [current, file, link] = ["current", "models.toml", "link.toml"].map(|name| path.join(name));
        symlink("r1", &current).unwrap();
        symlink("current/models.toml", &link).unwrap();
        symlink("link.toml", &file).unwrap();
        let mut watched = watch(&file);
        noticed(&mut watched, "r2", || points_to(&current, "r2")).await;
        noticed(&mut watched, "r2 edited", || fs::write(path.join("r2/models.toml"), "r2 edited").unwrap()).await;
    }

    #[tokio::test]
    async fn a_folder_that_was_made_anew_is_watched() {
        let (_folder, path) = folder();
        let [folder, file] = ["corral", "corral/models.toml"].map(|name| path.join(name));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "first").unwrap();
        let mut watched = watch(&file);
        noticed(&mut watched, "", || fs::remove_dir_all(&folder).unwrap()).await;
        fs::create_dir(&folder).unwrap();
        noticed(&mut watched, "second", || fs::write(&file, "second").unwrap()).await;
        noticed(&mut watched, "third", || fs::write(&file, "third").unwrap()).await;
    }

    #[tokio::test]
    async fn of_several_files_each_is_looked_at_also_in_folders_that_are_not_there_yet() {
        let (_folder, path) = folder();
        let files = ["a/settings.toml", "b/c/entry"].map(|name| path.join(name));
        let (seen, mut looks) = mpsc::unbounded_channel();
        let read = files.clone();
        let looking = tokio::spawn(whenever_changed(files.to_vec(), move || {
            seen.send(read.each_ref().map(|file| fs::read_to_string(file).unwrap_or_default())).is_ok()
        }));
        for text in ["first", "second"] {
            for (place, file) in files.iter().enumerate() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
                let seen = async { while looks.recv().await.unwrap()[place] != text {} };
                tokio::time::timeout(Duration::from_secs(10), seen)
                    .await
                    .unwrap_or_else(|_| panic!("{text}: {file:?}"));
            }
        }
        drop(looks);
        fs::write(&files[0], "nobody wants to know").unwrap();
        tokio::time::timeout(Duration::from_secs(10), looking).await.unwrap().unwrap();
    }

    #[test]
    fn links_in_a_circle_end() {
        let (_folder, path) = folder();
        let [a, b] = ["a", "b"].map(|name| path.join(name));
        symlink(&b, &a).unwrap();
        symlink(&a, &b).unwrap();
        assert_eq!(places(&a), BTreeSet::from([a, b]));
    }
}
