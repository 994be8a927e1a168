//! What is written down about a server, so that the next Corral finds it again.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corral_core::launch::Runtime;
use corral_core::ports::Instance;
use corral_core::{ConfigHash, InstanceId, ModelId, Result, Secret};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::errors;

/// One server, with all that starting it again needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) home_id: String,
    pub(super) id: InstanceId,
    pub(super) model: ModelId,
    pub(super) config_hash: ConfigHash,
    pub(super) api_key: String,
    pub(super) program: PathBuf,
    /// The value of `--port` is set at each start.
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) log: PathBuf,
    /// The last start; none for a server that was only prepared.
    pub(super) run: Option<RunRecord>,
}

/// One start of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) port: u16,
    pub(super) started_at: Timestamp,
    /// None in the moment before the process is there.
    pub(super) process: Option<Identity>,
}

impl Record {
    pub(super) fn instance(&self) -> Instance {
        Instance {
            id: self.id.clone(),
            runtime: Runtime::Process,
            model: self.model.clone(),
            config_hash: self.config_hash.clone(),
            image: None,
            api_key: Secret::new(self.api_key.clone()),
        }
    }

    /// The arguments of a start on this port.
    pub(super) fn args_on(&self, port: u16) -> Vec<String> {
        let mut args = self.args.clone();
        let value = args.iter().position(|arg| arg == "--port").and_then(|at| args.get_mut(at + 1));
        if let Some(value) = value {
            *value = port.to_string();
        }
        args
    }
}

/// The folder of the records: `instances/` in the state folder, which a logout does not empty: a server may outlive it.
#[derive(Debug, Clone)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("instances") }
    }

    fn path(&self, id: &InstanceId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Writes a record, readable by this user only: all of it or nothing.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let written = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            // A temporary file has mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.write_all(b"\n")?;
            file.persist(self.path(&record.id))?;
            Ok(())
        };
        written().map_err(|error| errors::unusable("cannot write into", &self.folder, error))
    }

    /// Removes a record; one that is gone already is fine.
    pub(super) fn remove(&self, id: &InstanceId) {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%id, %error, "cannot remove the record of a server");
            }
            _ => {}
        }
    }

    /// The records of this home.
    pub(super) fn read(&self, home_id: &str) -> Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(errors::unusable("cannot read", &self.folder, error)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut records: Vec<Record> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .filter_map(|path| {
                let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Record>(&bytes)?));
                // Records are written whole: one that cannot be read is not of this version of Corral.
                read.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a record that is none")).ok()
            })
            .filter(|record| record.home_id == home_id)
            .collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    pub(crate) fn record(id: &str) -> Record {
        Record {
            home_id: "home".to_owned(),
            id: InstanceId(id.to_owned()),
            model: ModelId::new("m").unwrap(),
            config_hash: ConfigHash("0123456789abcdef".to_owned()),
            api_key: "secret".to_owned(),
            program: PathBuf::from("/bin/true"),
            args: ["-m", "m.gguf", "--port", "0", "-c", "1"].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            log: PathBuf::from("/dev/null"),
            run: None,
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path());
        assert_eq!(records.read("home").unwrap(), []);
        let foreign = Record { home_id: "another".to_owned(), ..record("c") };
        for record in [&record("b"), &record("a"), &foreign] {
            records.write(record).unwrap();
        }
        fs::write(dir.path().join("instances/broken.json"), "{").unwrap();
        assert_eq!(records.read("home").unwrap(), [record("a"), record("b")]);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("instances"), mode("instances/a.json")), (0o700, 0o600));
        records.remove(&InstanceId("a".to_owned()));
        records.remove(&InstanceId("a".to_owned()));
        assert_eq!(records.read("home").unwrap(), [record("b")]);
    }

    #[test]
    fn the_port_is_set_at_each_start() {
        assert_eq!(record("a").args_on(41234).join(" "), "-m m.gguf --port 41234 -c 1");
    }
}
