//! Everything about a new container that can be done while another one serves.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use corral_core::launch::{LaunchSpec, Runtime};
use corral_core::ports::{Instance, Job};
use corral_core::snapshot::Step;
use corral_core::{Code, Error, InstanceId, Result, Secret};
use tokio::time::{Instant, sleep};

use super::connection::{Connected, status};
use super::gate::{self, Held};
use super::gpu::{self, Nodes};
use super::mounts::{self, MODELS};
use super::request::{self, Placement, create_request};
use super::shared::Shared;
use super::{ended, pull};
use crate::errors::{self, superseded};
use crate::slot_files::folder::{self, Writer};
use crate::{progress, random};

/// How long a server may take to read its arguments.
const ARGUMENTS: Duration = Duration::from_mins(1);

/// Creates a container and, where it can be held back, starts it up to the point where it would load its model.
pub(super) async fn prepare(shared: &Arc<Shared>, spec: &LaunchSpec, job: &Job) -> Result<Instance> {
    let connected = shared.connection.get().await?;
    let image = image(&connected, spec, job).await?;
    job.report(Step::Prepare, None);
    let name = format!("corral-{}-{}", spec.model, random::hex::<4>()?);
    let key = Secret::new(random::hex::<32>()?);
    let placed = {
        let (shared, spec, name, key) = (Arc::clone(shared), spec.clone(), name.clone(), key.clone());
        let facts = Arc::clone(&connected.facts);
        let image_user = image.config.and_then(|config| config.user);
        tokio::task::spawn_blocking(move || {
            let gate = facts.same_kernel.then(|| gate::path(&shared.config.run_dir, &name));
            place(&shared, &spec, &facts, image_user.as_deref(), gate, key)
        })
        .await
        .map_err(|error| errors::defect("a container could not be planned").because(error))?
    };
    let gate = gate::path(&shared.config.run_dir, &name);
    let made = match placed {
        Ok(placement) => create(shared, &connected, spec, &name, &placement, job).await,
        Err(error) => Err(error),
    };
    if made.is_err() {
        gate::remove(&gate);
    }
    let id = made?;
    Ok(Instance {
        id,
        runtime: Runtime::Docker,
        model: spec.model.clone(),
        config_hash: spec.hash(),
        image: Some(spec.image.clone()),
        api_key: key,
    })
}

async fn image(connected: &Connected, spec: &LaunchSpec, job: &Job) -> Result<ImageInspect> {
    let inspected = connected.docker.inspect_image(&spec.image).await;
    match inspected {
        Ok(image) => return Ok(image),
        Err(error) if status(&error) == Some(404) => pull::pull(connected, &spec.image, job).await?,
        Err(error) => return Err(connected.error(&format!("cannot look for the image {}", spec.image), &error)),
    }
    let inspected = connected.docker.inspect_image(&spec.image).await;
    inspected.map_err(|error| connected.error(&format!("cannot look at the image {}", spec.image), &error))
}

/// Looks at this machine, and makes what the container is to be given.
fn place(
    shared: &Shared,
    spec: &LaunchSpec,
    facts: &super::connection::EngineFacts,
    image_user: Option<&str>,
    gate: Option<PathBuf>,
    api_key: Secret,
) -> Result<Placement> {
    let config = &shared.config;
    let files = mounts::plan(spec, |path| std::fs::canonicalize(path))?;
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let readable = files.binds.iter().all(|bind| readable_by_all(spec, &bind.source, bind.target == MODELS));
    let user = request::user(image_user, facts.rootless, own, readable);
    // Root's containers run as different users.
    let writer = if own.0 == 0 && !facts.rootless { Writer::Container } else { Writer::Own };
    let unmade = |error| errors::unusable("cannot make", &folder::of(&config.slots_dir, &spec.model), error);
    let slots_dir = folder::make(&config.slots_dir, &spec.model, writer).map_err(unmade)?;
    if let Some(gate) = &gate {
        gate::make(gate).map_err(|error| errors::unusable("cannot make the pipe", gate, error))?;
    }
    Ok(Placement {
        home_id: config.home_id.clone(),
        version: config.version.clone(),
        api_key,
        files,
        slots_dir: std::fs::canonicalize(slots_dir).map_err(unmade)?,
        gate: gate.map(|gate| std::fs::canonicalize(&gate).unwrap_or(gate)),
        user: user.map(|(uid, gid)| format!("{uid}:{gid}")),
        gpu: gpu::access(gpu::gpu_kind(&spec.image), &spec.gpu, &Nodes::find())?,
        selinux: facts.selinux,
    })
}

/// Whether anybody may read what is bound from `source`: the file, or in the models folder the model's files and the
/// folders above them. The folders above `source` do not matter, for the container does not see them.
fn readable_by_all(spec: &LaunchSpec, source: &Path, is_folder: bool) -> bool {
    let allows =
        |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & bits == bits);
    if !is_folder {
        return allows(source, 0o004);
    }
    let files = corral_core::gguf::parts(&spec.file).into_iter().chain(spec.mmproj.clone());
    files.filter_map(|file| Some(source.join(file.strip_prefix(&spec.models_dir).ok()?))).all(|file| {
        let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(source));
        allows(&file, 0o004) && above.into_iter().all(|folder| allows(folder, 0o001))
    })
}

async fn create(
    shared: &Arc<Shared>,
    connected: &Connected,
    spec: &LaunchSpec,
    name: &str,
    placement: &Placement,
    job: &Job,
) -> Result<InstanceId> {
    if job.cancelled.is_cancelled() {
        return Err(superseded());
    }
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = connected.docker.create_container(Some(options), create_request(spec, placement)).await;
    let id = InstanceId(created.map_err(|error| connected.error("cannot create a container", &error))?.id);
    shared.update(&id, |known| {
        known.gate.clone_from(&placement.gate);
        known.model_bytes = progress::model_bytes(spec);
        known.loading = true;
    });
    let started = match &placement.gate {
        Some(gate) => start_held(shared, connected, spec, &id, gate, job).await.map(|held| shared.hold(&id, held)),
        None if job.cancelled.is_cancelled() => Err(superseded()),
        None => Ok(()),
    };
    if let Err(error) = started {
        shared.forget(&id);
        let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) = connected.docker.remove_container(&id.0, Some(force)).await {
            tracing::warn!(%id, %error, "a container stays behind");
        }
        return Err(error);
    }
    Ok(id)
}

async fn start_held(
    shared: &Arc<Shared>,
    connected: &Connected,
    spec: &LaunchSpec,
    id: &InstanceId,
    gate: &Path,
    job: &Job,
) -> Result<Held> {
    let started = connected.docker.start_container(&id.0, None).await;
    started.map_err(|error| connected.error("cannot start the container", &error))?;
    let inspected = connected.docker.inspect_container(&id.0, None).await;
    let inspected = inspected.map_err(|error| connected.error("cannot look at the container", &error))?;
    shared.learn(id, &inspected);
    tokio::select! {
        held = hold(shared, connected, id, &spec.model, gate) => held,
        () = job.cancelled.cancelled() => Err(superseded()),
    }
}

/// Waits until a started server has read its arguments and waits at its gate. An error when it ends before that, as it
/// does over an argument that it does not know.
pub(super) async fn hold(
    shared: &Shared,
    connected: &Connected,
    id: &InstanceId,
    model: &corral_core::ModelId,
    gate: &Path,
) -> Result<Held> {
    let mut ended = std::pin::pin!(ended::wait(connected, id));
    let began = Instant::now();
    loop {
        let tried = gate::try_hold(gate);
        if let Some(held) = tried.map_err(|error| errors::unusable("cannot open the pipe", gate, error))? {
            return Ok(held);
        }
        if began.elapsed() > ARGUMENTS {
            let lines = super::log::tail(&connected.docker, id).await;
            let message = format!("llama-server did not read its arguments within {} s", ARGUMENTS.as_secs());
            return Err(Error::new(Code::LoadFailed, message)
                .hint("try again when this machine has less to do; `corral logs` shows all that it said")
                .log(crate::logs::relevant(&lines)));
        }
        let wait = (began.elapsed() / 50).clamp(Duration::from_millis(1), Duration::from_millis(50));
        tokio::select! {
            () = sleep(wait) => {}
            status = &mut ended => return Err(ended::cause(shared, connected, id, model, status?).await),
        }
    }
}
