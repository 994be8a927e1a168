//! Looking at the machine. Every wait is bounded.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use corral_core::catalog::Reading;
use corral_core::launch::Runtime;
use corral_core::{Code, Error, Result};

use super::judge::{Facts, Port};
use crate::Environment;
use crate::catalog_file::{read_catalog_or_examples, uses};
use crate::paths::Paths;
use crate::runtime_files::DaemonFile;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn look(env: &Environment) -> Result<Facts> {
    let paths = Paths::resolve(env)?;
    let (Reading { catalog, problems }, catalog_exists) = read_catalog_or_examples(&paths);
    let catalog = catalog.unwrap_or_default();
    let specs = || catalog.models.values().map(|model| &model.launch);
    let missing = specs().filter(|spec| !spec.file.exists()).map(|spec| (spec.model.clone(), spec.file.clone()));
    let missing = if catalog_exists { missing.collect() } else { Vec::new() };

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Io, "cannot start the runtime").because(error))?;
    let mut images = Vec::new();
    let docker = uses(&catalog, Runtime::Docker).then(|| {
        let names: BTreeSet<_> = specs().map(|spec| spec.image.clone()).collect();
        let asked = async {
            let facts = corral_engine::docker::docker_facts(env).await?;
            for image in names {
                let present = corral_engine::docker::image_present(env, &image).await?;
                images.push((image, present));
            }
            Ok(facts)
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }).unwrap_or_else(|_| {
            Err(Error::new(Code::EngineUnavailable, format!("Docker did not answer in {} s", PATIENCE.as_secs()))
                .hint("sudo systemctl restart docker"))
        })
    });
    let binary = uses(&catalog, Runtime::Process).then(|| {
        let named = specs().find(|spec| spec.runtime == Runtime::Process).map(|spec| spec.binary.clone());
        corral_engine::process::find_binary(&named.unwrap_or_else(|| catalog.engine.binary.clone()), env)
    });
    let daemon = DaemonFile::read(&paths).filter(|daemon| answers(&daemon.management));
    let daemon = daemon.map(|daemon| vec![daemon.gateway, daemon.management]).unwrap_or_default();
    // Port 0 takes any that is free.
    let ports = [("gateway", catalog.server.gateway), ("management", catalog.server.management)];
    let ports = ports.into_iter().filter(|(_, address)| address.port() != 0);
    Ok(Facts {
        models: catalog.models.len(),
        models_dir: (catalog.engine.models_dir.clone(), std::fs::read_dir(&catalog.engine.models_dir).is_ok()),
        catalog: paths.catalog,
        catalog_exists,
        problems,
        missing,
        docker,
        images,
        binary,
        nvidia: Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists(),
        render: has_render_node(),
        ports: ports.map(|(name, address)| Port { name, address, free: TcpListener::bind(address).is_ok() }).collect(),
        daemon,
    })
}

fn answers(address: &SocketAddr) -> bool {
    TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok()
}

fn has_render_node() -> bool {
    let entries = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
}
