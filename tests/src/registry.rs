//! A container registry on loopback: as much of the distribution protocol (OCI distribution specification, "pull") as an
//! engine needs to pull one image, served slowly enough to be watched.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Docker;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

const UNKNOWN: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;

/// Size of the layer that the engine does not have yet, in bytes.
pub const NEW_BYTES: usize = 6 << 20;

/// What is served, by path: the media type and the content.
type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

/// A registry that holds one image. It ends with the test's process.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    docker: Docker,
}

impl Registry {
    /// Serves `image`, which the engine has, with a new layer of [`NEW_BYTES`] on top.
    pub fn with(docker: &Docker, image: &str) -> Self {
        let content = Arc::new(content(docker, image));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = content.clone();
                std::thread::spawn(move || serve(&stream, &content));
            }
        });
        Self { address, docker: docker.clone() }
    }

    /// The image's reference.
    pub fn image(&self) -> String {
        format!("{}/corral-test/pulled:new", self.address)
    }

    /// The reference of an image that it does not hold.
    pub fn other_image(&self) -> String {
        format!("{}/corral-test/pulled:other", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["image", "rm", "-f", &self.image()]);
    }
}

fn content(docker: &Docker, image: &str) -> Content {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("image.tar");
    docker.run(&["save", "-o", &saved.display().to_string(), image]);
    tar(&["-xf", &saved.display().to_string(), "-C", &folder.path().display().to_string()]);
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("a file of the saved image");
    let saved: Value = serde_json::from_slice(&read("manifest.json")).expect("JSON");
    let mut layers: Vec<Vec<u8>> = saved[0]["Layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| read(layer.as_str().expect("a name")))
        .collect();
    let mut config: Value = serde_json::from_slice(&read(saved[0]["Config"].as_str().expect("a name"))).expect("JSON");
    layers.push(new_layer(folder.path()));
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    config["rootfs"]["diff_ids"] = json!(diff_ids);
    if let Some(history) = config["history"].as_array_mut() {
        history.push(json!({ "created_by": "a test" }));
    }
    let config = serde_json::to_vec(&config).expect("JSON");
    let describe =
        |media: &str, bytes: &[u8]| json!({ "mediaType": media, "size": bytes.len(), "digest": digest(bytes) });
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe(CONFIG, &config),
        "layers": layers.iter().map(|layer| describe(LAYER, layer)).collect::<Vec<_>>(),
    }))
    .expect("JSON");
    let path = |kind: &str, name: &str| format!("/v2/corral-test/pulled/{kind}/{name}");
    let blobs = layers.into_iter().chain([config]).map(|blob| (path("blobs", &digest(&blob)), (LAYER, blob)));
    let manifests = [path("manifests", "new"), path("manifests", &digest(&manifest))];
    let manifests = manifests.map(|path| (path, (MANIFEST, manifest.clone())));
    blobs.chain(manifests).chain([("/v2/".to_owned(), ("application/json", b"{}".to_vec()))]).collect()
}

/// Bytes that no other run has had, so that the engine cannot know them.
fn new_layer(folder: &Path) -> Vec<u8> {
    let mut bytes = vec![0; NEW_BYTES];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("random bytes"), &mut bytes)
        .expect("random bytes");
    std::fs::write(folder.join("new-file"), bytes).expect("a file");
    let layer = folder.join("new.tar");
    tar(&["-cf", &layer.display().to_string(), "-C", &folder.display().to_string(), "new-file"]);
    std::fs::read(layer).expect("a layer")
}

fn tar(args: &[&str]) {
    assert!(Command::new("tar").args(args).status().expect("`tar` runs").success(), "tar {args:?}");
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Answers one request and closes the connection.
fn serve(stream: &TcpStream, content: &Content) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    // The head is read to its end, or the close would reset the connection.
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut out = stream;
    let (status, media, body) = match content.get(path) {
        Some((media, body)) => ("200 OK", *media, body.as_slice()),
        None => ("404 Not Found", "application/json", UNKNOWN.as_bytes()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Connection: close\r\n\r\n",
        body.len(),
        digest(body)
    );
    // The engine may have had enough.
    let _ = out.write_all(head.as_bytes()).and_then(|()| if method == "HEAD" { Ok(()) } else { send(&mut out, body) });
}

/// The new layer at about 6 MB a second, as over a slow line; what the engine may have already at once.
fn send(out: &mut impl Write, body: &[u8]) -> std::io::Result<()> {
    for piece in body.chunks(64 << 10) {
        out.write_all(piece)?;
        if (NEW_BYTES..2 * NEW_BYTES).contains(&body.len()) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    Ok(())
}
