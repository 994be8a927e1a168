//! Reading little-endian values from a file that may lie.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::{GgufError, types};

/// Headers of real models are at most 20 megabytes, most of it the vocabulary. More is damage, and would be slow to walk.
const MAX_HEADER: u64 = 64 << 20;
/// Arrays of arrays: the specification allows them, nobody writes them.
const MAX_DEPTH: u32 = 3;

/// A position in the file that never passes its end.
pub(super) struct Cursor<R: Read + Seek> {
    file: BufReader<R>,
    position: u64,
    size: u64,
}

impl<R: Read + Seek> Cursor<R> {
    pub(super) fn new(mut file: R) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), position: 0, size })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Moves the position, once it is known that there is that much.
    fn claim(&mut self, bytes: u64) -> Result<(), GgufError> {
        let end = self.position.checked_add(bytes);
        match end {
            Some(end) if end > MAX_HEADER => {}
            Some(end) if end > self.size => {
                return Err(GgufError::Truncated { actual: self.size, described: None });
            }
            Some(end) => {
                self.position = end;
                return Ok(());
            }
            None => {}
        }
        Err(GgufError::Damaged(format!("a value of {bytes} bytes at byte {}", self.position)))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.claim(bytes)?;
        // `claim` has checked it against `MAX_HEADER`.
        self.file.seek_relative(bytes.cast_signed())?;
        Ok(())
    }

    /// A text of at most `longest` bytes; a longer one is skipped. Bytes that are not UTF-8 are replaced.
    pub(super) fn text(&mut self, longest: u64) -> Result<Option<String>, GgufError> {
        let length = self.u64()?;
        if length > longest {
            self.skip(length)?;
            return Ok(None);
        }
        self.claim(length)?;
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn skip_text(&mut self) -> Result<(), GgufError> {
        let length = self.u64()?;
        self.skip(length)
    }

    /// A whole number of any width; none, and skipped, where the value is something else or negative.
    pub(super) fn number(&mut self, kind: u32) -> Result<Option<u64>, GgufError> {
        Ok(match kind {
            types::UINT8 => self.bytes::<1>().map(|bytes| Some(u64::from(bytes[0])))?,
            types::INT8 => self.bytes().map(|bytes| u64::try_from(i8::from_le_bytes(bytes)).ok())?,
            types::UINT16 => self.bytes().map(|bytes| Some(u64::from(u16::from_le_bytes(bytes))))?,
            types::INT16 => self.bytes().map(|bytes| u64::try_from(i16::from_le_bytes(bytes)).ok())?,
            types::UINT32 => self.u32().map(|number| Some(u64::from(number)))?,
            types::INT32 => self.bytes().map(|bytes| u64::try_from(i32::from_le_bytes(bytes)).ok())?,
            types::UINT64 => self.u64().map(Some)?,
            types::INT64 => self.bytes().map(|bytes| u64::try_from(i64::from_le_bytes(bytes)).ok())?,
            _ => {
                self.skip_value(kind)?;
                None
            }
        })
    }

    pub(super) fn skip_value(&mut self, kind: u32) -> Result<(), GgufError> {
        self.skip_nested(kind, 0)
    }

    fn skip_nested(&mut self, kind: u32, depth: u32) -> Result<(), GgufError> {
        match kind {
            types::STRING => self.skip_text(),
            types::ARRAY if depth < MAX_DEPTH => {
                let items = self.u32()?;
                let count = self.u64()?;
                self.skip_array(items, count, depth)
            }
            _ => match types::width_of(kind) {
                Some(width) => self.skip(width),
                None => Err(GgufError::Damaged(format!("a value of the unknown type {kind}"))),
            },
        }
    }
    /// The items of an array, of which only type and number were read.
    pub(super) fn skip_items(&mut self, items: u32, count: u64) -> Result<(), GgufError> {
        self.skip_array(items, count, 0)
    }

    fn skip_array(&mut self, items: u32, count: u64, depth: u32) -> Result<(), GgufError> {
        if let Some(width) = types::width_of(items) {
            let bytes = count.checked_mul(width);
            return self.skip(bytes.ok_or_else(|| GgufError::Damaged(format!("an array of {count} items")))?);
        }
        // Each item takes at least its length field, so the end of the file ends this.
        (0..count).try_for_each(|_| self.skip_nested(items, depth + 1))
    }
}
