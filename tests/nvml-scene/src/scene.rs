//! The scene, as the library reads it, and what it writes down.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::stage::{CALLS, HOLD, SCENE};

/// What a file was when it was last read.
type Version = (u64, i64, i64);

struct State {
    folder: PathBuf,
    calls: Option<File>,
    read: Option<(Version, Arc<Value>)>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The folder that this library was loaded from.
fn own_folder() -> PathBuf {
    let here = own_folder as fn() -> PathBuf;
    // SAFETY: all zeros are a valid Dl_info, and dladdr fills it in or leaves it; the name lives as long as the
    // library.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        assert!(libc::dladdr(here as *const libc::c_void, &raw mut info) != 0, "this library has a name");
        CStr::from_ptr(info.dli_fname)
    };
    Path::new(OsStr::from_bytes(name.to_bytes())).parent().expect("a folder").to_owned()
}

/// Writes a call down, waits where it is held, and tells the scene of this moment.
pub(crate) fn called(function: &str) -> Arc<Value> {
    let (scene, folder) = {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.get_or_insert_with(|| {
            let folder = own_folder();
            let calls = OpenOptions::new().create(true).append(true).open(folder.join(CALLS));
            State { folder, calls: calls.ok(), read: None }
        });
        if let Some(calls) = &mut state.calls {
            calls.write_all(format!("{function}\n").as_bytes()).expect("a disk");
        }
        let path = state.folder.join(SCENE);
        // A test that ends takes its scene along before the library is let go of: the last one goes on then.
        if let Ok(meta) = fs::metadata(&path) {
            let version = (meta.ino(), meta.mtime(), meta.mtime_nsec());
            if state.read.as_ref().is_none_or(|(read, _)| *read != version)
                && let Ok(scene) = fs::read(&path)
            {
                state.read = Some((version, Arc::new(serde_json::from_slice(&scene).expect("JSON"))));
            }
        }
        (state.read.as_ref().map(|(_, scene)| scene.clone()).unwrap_or_default(), state.folder.clone())
    };
    if scene["hold"] == function {
        // Opening a pipe waits for whoever writes into it.
        let _ = File::open(folder.join(HOLD));
    }
    scene
}
