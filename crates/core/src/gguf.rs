//! What a model file says of itself: the header of a GGUF file, read with no trust in it.
//!
//! The format is the `docs/gguf.md` specification of the ggml project, versions 2 and 3, little-endian. Lengths and
//! counts come from the file: each is checked against what is left of it before anything is read or kept.

use std::io::{self, Read, Seek};
use std::path::Path;

use crate::error::{Code, Error};

mod cursor;
mod parts;
mod types;

pub use self::parts::{PartName, parts};

use cursor::Cursor;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// `GGML_MAX_DIMS`
const MAX_DIMENSIONS: u32 = 4;
/// A longer text is not kept, only skipped: names are short.
const MAX_KEPT_TEXT: u64 = 64 * 1024;

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
    let mut cursor = Cursor::new(file)?;
    // Whatever is not a GGUF file is said to be none, however short it is.
    if cursor.size() < 4 || cursor.bytes::<4>()? != MAGIC {
        return Err(GgufError::NotGguf);
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
        version => return Err(GgufError::Version(version)),
    }
    let tensors = cursor.u64()?;
    let metadata = cursor.u64()?;
    let found = Metadata::read(&mut cursor, metadata)?;

    let mut extent = Extent::default();
    for _ in 0..tensors {
        extent.add_tensor(&mut cursor)?;
    }
    let alignment = found.alignment.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment > 1 << 20 || !alignment.is_power_of_two() {
        return Err(GgufError::Damaged(format!("an alignment of {alignment}")));
    }
    // The position is below the file's size, so this stays far below the largest number.
    let begin = cursor.position().next_multiple_of(alignment);
    let end = if tensors == 0 { Some(cursor.position()) } else { begin.checked_add(extent.end) };
    let described = end.ok_or_else(|| GgufError::Damaged("a tensor beyond any file's end".to_owned()))?;
    if described > cursor.size() {
        return Err(GgufError::Truncated { actual: cursor.size(), described: Some(described) });
    }
    Ok(GgufSummary {
        context_length: found.context_length(),
        split: found.split(),
        architecture: found.architecture,
        name: found.name,
        file_type: found.file_type,
        tensors,
        size_bytes: cursor.size(),
        described_bytes: extent.complete.then_some(described),
    })
}

/// The few metadata values that are kept.
#[derive(Debug, Default)]
struct Metadata {
    architecture: Option<String>,
    name: Option<String>,
    file_type: Option<u64>,
    alignment: Option<u64>,
    split_index: Option<u64>,
    split_count: Option<u64>,
    /// By architecture, as the keys may come in any order.
    context_lengths: Vec<(String, u64)>,
}

impl Metadata {
    fn read<R: Read + Seek>(cursor: &mut Cursor<R>, count: u64) -> Result<Self, GgufError> {
        let mut found = Self::default();
        for _ in 0..count {
            let key = cursor.text(MAX_KEPT_TEXT)?.unwrap_or_default();
            let kind = cursor.u32()?;
            match (key.as_str(), kind) {
                ("general.architecture", types::STRING) => found.architecture = cursor.text(MAX_KEPT_TEXT)?,
                ("general.name", types::STRING) => found.name = cursor.text(MAX_KEPT_TEXT)?,
                ("general.file_type", _) => found.file_type = cursor.number(kind)?,
                ("general.alignment", _) => found.alignment = cursor.number(kind)?,
                ("split.no", _) => found.split_index = cursor.number(kind)?,
                ("split.count", _) => found.split_count = cursor.number(kind)?,
                _ => match key.strip_suffix(".context_length") {
                    // One is usual, a few would be odd: no file makes this list long.
                    Some(architecture) if found.context_lengths.len() < 16 => {
                        if let Some(length) = cursor.number(kind)? {
                            found.context_lengths.push((architecture.to_owned(), length));
                        }
                    }
                    _ => cursor.skip_value(kind)?,
                },
            }
        }
        Ok(found)
    }

    fn context_length(&self) -> Option<u64> {
        let architecture = self.architecture.as_deref()?;
        self.context_lengths.iter().find(|(of, _)| of == architecture).map(|(_, length)| *length)
    }

    fn split(&self) -> Option<Split> {
        let count = self.split_count.filter(|count| *count > 1)?;
        Some(Split { index: self.split_index.unwrap_or(0), count })
    }
}

/// How far the tensors reach, from the beginning of the tensor data.
#[derive(Debug)]
struct Extent {
    /// In bytes: exact when complete, else at least this.
    end: u64,
    /// All types are known.
    complete: bool,
}

impl Default for Extent {
    fn default() -> Self {
        Self { end: 0, complete: true }
    }
}

impl Extent {
    fn add_tensor<R: Read + Seek>(&mut self, cursor: &mut Cursor<R>) -> Result<(), GgufError> {
        cursor.skip_text()?;
        let dimensions = cursor.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(GgufError::Damaged(format!("a tensor of {dimensions} dimensions")));
        }
        let mut elements = Some(1_u64);
        for _ in 0..dimensions {
            let dimension = cursor.u64()?;
            elements = elements.and_then(|elements| elements.checked_mul(dimension));
        }
        let kind = cursor.u32()?;
        let offset = cursor.u64()?;
        let size = if let Some((block, bytes)) = types::block_of(kind) {
            elements.and_then(|elements| elements.div_ceil(block).checked_mul(bytes))
        } else {
            self.complete = false;
            Some(0)
        };
        let end = size.and_then(|size| offset.checked_add(size));
        let end = end.ok_or_else(|| GgufError::Damaged("a tensor larger than any file".to_owned()))?;
        self.end = self.end.max(end);
        Ok(())
    }
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
