//! Which build of `llama-server` a start runs: what was learned of one need not hold for the next.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corral_core::InstanceId;
use corral_core::launch::{LaunchSpec, Runtime};

use crate::docker::Images;
use crate::environment::Environment;
use crate::process::find_binary;

/// Tells builds apart. Docker is asked only about what runs in it.
#[derive(Debug)]
pub struct Builds {
    env: Environment,
    images: Images,
}

impl Builds {
    /// Asks nobody yet.
    pub fn new(env: Environment) -> Self {
        Self { images: Images::new(env.clone()), env }
    }

    /// The build that a start with these settings runs: an image by its id, a program by its path, size and time of
    /// change. None where it is not there or Docker does not answer. Libraries beside a program are not looked at.
    pub async fn of(&self, spec: &LaunchSpec) -> Option<String> {
        match spec.runtime {
            Runtime::Docker => self.images.id(&spec.image).await,
            Runtime::Process => {
                let (env, binary) = (self.env.clone(), spec.binary.clone());
                tokio::task::spawn_blocking(move || program(&binary, &env)).await.ok().flatten()
            }
        }
    }

    /// The build that an instance was made of, which was started with these settings just now.
    pub async fn of_instance(&self, instance: &InstanceId, spec: &LaunchSpec) -> Option<String> {
        match spec.runtime {
            // What its reference means may be another image since it was created.
            Runtime::Docker => self.images.of_container(instance).await,
            Runtime::Process => self.of(spec).await,
        }
    }
}

fn program(binary: &Path, env: &Environment) -> Option<String> {
    let path = find_binary(binary, env).ok()?;
    let meta = path.metadata().ok()?;
    Some(format!("{} {} {}.{:09}", path.display(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use corral_testkit::launch_spec;

    use super::*;

    #[tokio::test]
    async fn a_program_that_was_replaced_is_another_build() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("llama-server");
        let env: Environment = [("PATH", folder.path().to_str().unwrap())].into_iter().collect();
        let builds = Builds::new(env);
        let by_name = LaunchSpec { runtime: Runtime::Process, binary: "llama-server".into(), ..launch_spec("m") };
        assert_eq!(builds.of(&by_name).await, None, "it is not there");
        fs::write(&binary, "one").unwrap();
        fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        File::open(&binary).unwrap().set_modified(long_ago).unwrap();
        let first = builds.of(&by_name).await.unwrap();
        let by_path = LaunchSpec { binary: binary.clone(), ..by_name.clone() };
        assert_eq!(builds.of(&by_path).await.as_ref(), Some(&first));
        assert_eq!(builds.of_instance(&InstanceId("i".to_owned()), &by_path).await.as_ref(), Some(&first));
        File::open(&binary).unwrap().set_modified(long_ago + Duration::from_nanos(1)).unwrap();
        let second = builds.of(&by_name).await.unwrap();
        assert_ne!(second, first, "its time is another one");
        fs::write(&binary, "three").unwrap();
        File::open(&binary).unwrap().set_modified(long_ago).unwrap();
        let third = builds.of(&by_name).await.unwrap();
        assert!(third != first && third != second, "its size is another one");
    }
}
