//! The domain of Corral: the catalog, the lifecycle of one `llama-server`, and the controller that owns it.
//!
//! Nothing here knows Docker, HTTP or a file format other than the catalog's and the model's: the world comes in
//! through [`ports`].

pub mod catalog;
pub mod command;
pub mod configuration;
pub mod controller;
pub mod energy;
pub mod error;
pub mod fit;
pub mod gguf;
pub mod gpu;
pub mod history;
pub mod id;
pub mod launch;
pub mod lifecycle;
pub mod listen;
pub mod live;
pub mod log;
pub mod loopback;
pub mod machine;
pub mod ports;
pub mod session;
pub mod settings;
pub mod snapshot;
pub mod tray;
pub mod usage;

pub use error::{Code, Error, ErrorBody, Place, Result};
pub use id::{ConfigHash, InstanceId, ModelId, OperationId, Secret};
pub use session::SessionId;
