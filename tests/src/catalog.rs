//! Catalogs of tiny models.

use std::fmt::Write as _;
use std::path::Path;

use corral_testkit::{SandboxHome, TinyModel};

use crate::parts;

/// A catalog in the making; `models_dir` is the home's own folder.
#[derive(Debug, Clone)]
pub struct Models {
    head: String,
    tables: String,
    tiny: Vec<String>,
}

impl Models {
    /// Models in containers.
    pub fn docker() -> Self {
        Self::with_engine(&format!("runtime = \"docker\"\nimage = \"{}\"", parts::image()))
    }

    /// Models in child processes.
    pub fn process() -> Self {
        Self::program(&parts::llama_server())
    }

    /// Models in child processes of this program.
    pub fn program(path: &Path) -> Self {
        Self::with_engine(&format!("runtime = \"process\"\nbinary = '{}'", path.display()))
    }

    fn with_engine(engine: &str) -> Self {
        Self {
            head: format!(
                "schema = 1\n\n[server]\ngateway = \"127.0.0.1:0\"\nmanagement = \"127.0.0.1:0\"\n\n[engine]\n{engine}\n\n\
                 [defaults]\nctx = 4096\n"
            ),
            tables: String::new(),
            tiny: Vec::new(),
        }
    }

    /// Adds models of half a megabyte, each with its file.
    #[must_use]
    pub fn tiny(mut self, ids: &[&str]) -> Self {
        for id in ids {
            self = self.tiny_with(id, "");
        }
        self
    }

    /// Adds such a model with more lines in its table.
    #[must_use]
    pub fn tiny_with(mut self, id: &str, lines: &str) -> Self {
        self.tiny.push(id.to_owned());
        let file = format!("file = \"{id}.gguf\"\n{lines}");
        self.table(id, &file)
    }

    /// Adds a model with just these lines.
    #[must_use]
    pub fn table(mut self, id: &str, lines: &str) -> Self {
        write!(self.tables, "\n[models.{id}]\n{lines}\n").expect("a text can be written to");
        self
    }

    /// Replaces a piece of the text above the models, which must be there.
    #[must_use]
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.head.contains(old), "{old} is in\n{}", self.head);
        self.head = self.head.replace(old, new);
        self
    }

    /// Each server with one thread: several that wait for each other take for ever where the cores have other work.
    #[must_use]
    pub fn one_thread(self) -> Self {
        self.with("[defaults]\n", "[defaults]\nenv = { LLAMA_ARG_THREADS = \"1\" }\n")
    }

    /// With these lines in `[gateway]`.
    #[must_use]
    pub fn gateway(mut self, lines: &str) -> Self {
        write!(self.head, "\n[gateway]\n{lines}\n").expect("a text can be written to");
        self
    }

    /// The text of the catalog.
    pub fn text(&self) -> String {
        format!("{}{}", self.head, self.tables)
    }

    /// Writes the model files and the catalog.
    pub fn write(&self, home: &SandboxHome) {
        for (seed, id) in (1..).zip(&self.tiny) {
            home.write_model(&format!("{id}.gguf"), &TinyModel::new(seed));
        }
        home.write_catalog(&self.text());
    }

    /// A new home with this catalog.
    pub fn home(&self) -> SandboxHome {
        let home = SandboxHome::new();
        self.write(&home);
        home
    }
}
