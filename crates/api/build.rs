//! Puts the dashboard's files, which npm has built into `ui/dist`, into the program: a table of them in `$OUT_DIR/ui.rs`.
//!
//! Each is there as it is and compressed, so that nothing is compressed or expanded while Corral runs; the crates that
//! embed folders keep one of the two. Without the files the table is empty, and the program says how to build them.

#![allow(clippy::print_stdout, reason = "this is how Cargo is told")]

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (source, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    let dist = source.join("../../ui/dist");
    // Cargo runs this with every build where what is to be watched is missing. Sources that are read-only have to bear it.
    let _ = fs::create_dir_all(&dist);
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    find(&dist, &mut files)?;
    files.sort();
    let mut table = "&[\n".to_owned();
    for (number, file) in files.iter().enumerate() {
        let path = file.strip_prefix(&dist).map_err(io::Error::other)?;
        let content = fs::read(file)?;
        let packed = gzip(&content)?;
        // What is compressed already only grows.
        let packed = if packed.len() < content.len() / 10 * 9 {
            let at = out.join(format!("{number}.gz"));
            fs::write(&at, packed)?;
            format!("Some(include_bytes!({:?}))", at.display().to_string())
        } else {
            "None".to_owned()
        };
        let tag = Sha256::digest(&content).iter().take(12).fold(String::new(), |mut tag, byte| {
            let _ = write!(tag, "{byte:02x}");
            tag
        });
        let _ = writeln!(
            table,
            "    File {{ path: {:?}, content: include_bytes!({:?}), packed: {packed}, tag: \"\\\"{tag}\\\"\" }},",
            path.display().to_string(),
            fs::canonicalize(file)?.display().to_string(),
        );
    }
    table.push_str("]\n");
    fs::write(out.join("ui.rs"), table)
}

/// All plain files below a folder; none where it is missing.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(content)?;
    packer.finish()
}
