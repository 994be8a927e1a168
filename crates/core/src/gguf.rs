//! What a model file says of itself: the header of a GGUF file, read with no trust in it.
//!
//! The format is the `docs/gguf.md` specification of the ggml project, versions 2 and 3, little-endian. Lengths and
//! counts come from the file: each is checked against what is left of it before anything is read or kept.

use std::io::{self, Read, Seek};
use std::path::Path;

use crate::error::{Code, Error};

mod cursor;
mod header;
mod model;
mod parts;
mod types;

pub use self::header::{Header, Tensor, Value, read};
pub use self::model::Model;
pub use self::parts::{PartName, parts};
pub use self::types::{TensorType, tensor_type};

/// What the header of one GGUF file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufSummary {
    /// `general.architecture`, for instance `llama`.
    pub architecture: Option<String>,
    /// `general.name`
    pub name: Option<String>,
    /// `general.file_type`: the number of the quantisation most tensors have.
    pub file_type: Option<u64>,
    /// `<architecture>.context_length`: the context it was trained for, in tokens.
    pub context_length: Option<u64>,
    /// Which part of a model in several files this is; none where it is the only one.
    pub split: Option<Split>,
    /// Number of tensors in this file.
    pub tensors: u64,
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The size in bytes that the header describes; none where a tensor has a type unknown here.
    pub described_bytes: Option<u64>,
}

/// `split.no` and `split.count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Which part, from 0.
    pub index: u64,
    /// Of how many.
    pub count: u64,
}

/// Why a file cannot be used as a model.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin with `GGUF`.
    #[error("is not a GGUF file")]
    NotGguf,
    /// It is of a version that `llama-server` does not read either.
    #[error("is a GGUF file of version {0}, which is not supported")]
    Version(u32),
    /// It was written for big-endian machines.
    #[error("is a big-endian GGUF file")]
    BigEndian,
    /// It ends before its header, or before what its header describes.
    #[error("is cut off")]
    Truncated {
        /// The size of the file in bytes.
        actual: u64,
        /// The size in bytes that it should have at least; none where it ends within its header.
        described: Option<u64>,
    },
    /// The header contradicts itself.
    #[error("has a damaged header: {0}")]
    Damaged(String),
}

impl GgufError {
    /// The error as a person sees it. `path` is the file that was read.
    pub fn of_file(self, path: &Path) -> Error {
        let file = path.display();
        match self {
            Self::Io(error) => Error::new(Code::ModelFileMissing, format!("`{file}` cannot be read")).because(error),
            Self::Truncated { actual, described: Some(described) } => {
                let (actual, described) = sizes(actual, described);
                let text =
                    format!("`{file}` is {actual} but its header describes {described}: the download was cut off");
                Error::new(Code::ModelFileTruncated, text).hint("download it again")
            }
            Self::Truncated { actual, described: None } => {
                let text =
                    format!("`{file}` ends within its own header, after {actual} bytes: the download was cut off");
                Error::new(Code::ModelFileTruncated, text).hint("download it again")
            }
            Self::NotGguf => Error::new(Code::ModelFileInvalid, format!("`{file}` is not a GGUF file"))
                .hint("llama.cpp loads `.gguf` files only; a web page saved under that name is a common mistake"),
            Self::Version(1) => Error::new(Code::ModelFileInvalid, format!("`{file}` {self}"))
                .hint("it is from 2023; download a newer conversion of the model"),
            Self::Version(_) => Error::new(Code::ModelFileInvalid, format!("`{file}` {self}"))
                .hint("it may need a newer Corral and a newer llama-server"),
            Self::BigEndian => Error::new(Code::ModelFileInvalid, format!("`{file}` {self}"))
                .hint("download the little-endian conversion of the model"),
            Self::Damaged(_) => {
                Error::new(Code::ModelFileInvalid, format!("`{file}` {self}")).hint("download it again")
            }
        }
    }
}

/// Reads the header and checks that the file is as long as it describes. Of a file of any size only the header is read.
///
/// ```
/// use corral_core::gguf::{GgufError, inspect};
/// let page = std::io::Cursor::new(b"<!DOCTYPE html>");
/// assert!(matches!(inspect(page), Err(GgufError::NotGguf)));
/// ```
pub fn inspect(file: impl Read + Seek) -> Result<GgufSummary, GgufError> {
    read(file).map(|header| header.summary)
}

/// Both sizes in the unit that a person reads, or in bytes where that would hide the difference.
fn sizes(actual: u64, described: u64) -> (String, String) {
    let (short, long) = (human(actual), human(described));
    if short == long { (format!("{actual} bytes"), format!("{described} bytes")) } else { (short, long) }
}

/// For instance `4.7 GB`.
fn human(bytes: u64) -> String {
    for (unit, name) in [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")] {
        if bytes >= unit {
            let tenths = bytes / (unit / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests;
