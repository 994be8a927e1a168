//! The whole header of one file: what its metadata say, and which tensors it holds.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};

use super::cursor::Cursor;
use super::types;
use super::{GgufError, GgufSummary, Split};

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// `GGML_MAX_DIMS`
const MAX_DIMENSIONS: u32 = 4;
/// A longer text is not kept, only skipped: names are short.
const MAX_TEXT: u64 = 4096;
/// Keys are names with dots; `GGML_MAX_NAME` of tensors is 64 in most builds.
const MAX_KEY: u64 = 256;
/// Real models have about 50, and below 30,000 tensors.
const MAX_VALUES: u64 = 4096;
const MAX_TENSORS: u64 = 65_536;
/// A longer array is not kept, only counted. `LLAMA_MAX_LAYERS` is 512; what is longer is about the vocabulary.
const MAX_ITEMS: u64 = 1024;

/// A metadata value, as far as anybody here asks for one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number of any width.
    Number(u64),
    /// A fraction.
    Fraction(f64),
    /// Yes or no.
    Bool(bool),
    /// A text of at most 4 KiB.
    Text(String),
    /// At most 1024 whole numbers, or yes and no as 1 and 0: one for each layer.
    Numbers(Vec<u64>),
    /// How many items an array has that is not kept: a longer one, or one of something else.
    Items(u64),
}

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// For instance `blk.0.attn_q.weight`.
    pub name: String,
    /// Number of elements in each dimension, the row's first; 1 where it has no such dimension.
    pub dimensions: [u64; 4],
    /// The number of its type, a `ggml_type`.
    pub kind: u32,
    /// Its size in bytes; none where the type is unknown here.
    pub bytes: Option<u64>,
}

/// All that a header tells, read once and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The few things that are asked of every file.
    pub summary: GgufSummary,
    /// The metadata by their keys; what nobody here asks for (long texts, negative numbers) is left out.
    pub values: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
}

impl Header {
    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The whole number that a key has.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }
}

/// Reads the header and checks that the file is as long as it describes. Of a file of any size only the header is read,
/// and no more is kept than was read of it.
pub fn read(file: impl Read + Seek) -> Result<Header, GgufError> {
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
    let tensors = counted(cursor.u64()?, MAX_TENSORS, "tensors")?;
    let metadata = counted(cursor.u64()?, MAX_VALUES, "metadata values")?;
    let values = read_values(&mut cursor, metadata)?;
    let alignment = match values.get("general.alignment") {
        Some(Value::Number(alignment)) if *alignment <= 1 << 20 && alignment.is_power_of_two() => *alignment,
        Some(other) => return Err(GgufError::Damaged(format!("an alignment of {other:?}"))),
        None => DEFAULT_ALIGNMENT,
    };
    let mut extent = Extent { alignment, next: Some(0), end: 0 };
    let tensors = read_tensors(&mut cursor, tensors, &mut extent)?;

    // The position is below the file's size, so this stays far below the largest number.
    let begin = cursor.position().next_multiple_of(alignment);
    let end = if tensors.is_empty() { Some(cursor.position()) } else { begin.checked_add(extent.end) };
    let described = end.ok_or_else(|| GgufError::Damaged("a tensor beyond any file's end".to_owned()))?;
    if described > cursor.size() {
        return Err(GgufError::Truncated { actual: cursor.size(), described: Some(described) });
    }
    let summary = GgufSummary {
        architecture: text(&values, "general.architecture"),
        name: text(&values, "general.name"),
        file_type: number(&values, "general.file_type"),
        context_length: text(&values, "general.architecture")
            .and_then(|architecture| number(&values, &format!("{architecture}.context_length"))),
        split: number(&values, "split.count")
            .filter(|count| *count > 1)
            .map(|count| Split { index: number(&values, "split.no").unwrap_or(0), count }),
        tensors: tensors.len() as u64,
        size_bytes: cursor.size(),
        described_bytes: extent.next.is_some().then_some(described),
    };
    Ok(Header { summary, values, tensors })
}

fn counted(count: u64, most: u64, of: &str) -> Result<u64, GgufError> {
    if count > most {
        return Err(GgufError::Damaged(format!("{count} {of}")));
    }
    Ok(count)
}

fn text(values: &BTreeMap<String, Value>, key: &str) -> Option<String> {
    match values.get(key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

fn number(values: &BTreeMap<String, Value>, key: &str) -> Option<u64> {
    match values.get(key) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

fn read_values<R: Read + Seek>(cursor: &mut Cursor<R>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut values = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.text(MAX_KEY)?.ok_or_else(|| GgufError::Damaged("a key that is no name".to_owned()))?;
        let kind = cursor.u32()?;
        if let Some(value) = read_value(cursor, kind)?
            && values.insert(key.clone(), value).is_some()
        {
            return Err(GgufError::Damaged(format!("the key `{}` twice", key.escape_default())));
        }
    }
    Ok(values)
}

fn read_value<R: Read + Seek>(cursor: &mut Cursor<R>, kind: u32) -> Result<Option<Value>, GgufError> {
    Ok(match kind {
        types::STRING => cursor.text(MAX_TEXT)?.map(Value::Text),
        types::BOOL => cursor.bytes::<1>().map(|[byte]| Some(Value::Bool(byte != 0)))?,
        types::FLOAT32 => cursor.bytes().map(|bytes| Some(Value::Fraction(f32::from_le_bytes(bytes).into())))?,
        types::FLOAT64 => cursor.bytes().map(|bytes| Some(Value::Fraction(f64::from_le_bytes(bytes))))?,
        types::ARRAY => {
            let items = cursor.u32()?;
            let count = cursor.u64()?;
            if count > MAX_ITEMS || !(items == types::BOOL || types::is_whole(items)) {
                cursor.skip_items(items, count)?;
                return Ok(Some(Value::Items(count)));
            }
            let mut numbers = Vec::new();
            for _ in 0..count {
                let number = match items {
                    types::BOOL => cursor.bytes::<1>().map(|[byte]| Some(u64::from(byte != 0)))?,
                    _ => cursor.number(items)?,
                };
                // Where a layer has none of something, -1 is written now and then.
                numbers.push(number.unwrap_or(0));
            }
            Some(Value::Numbers(numbers))
        }
        _ => cursor.number(kind)?.map(Value::Number),
    })
}

/// How far the tensors reach, from the beginning of the tensor data.
struct Extent {
    alignment: u64,
    /// Where the next tensor has to begin, for they follow each other; none behind one of unknown size.
    next: Option<u64>,
    /// In bytes: exact while all sizes are known, else at least this.
    end: u64,
}

fn read_tensors<R: Read + Seek>(
    cursor: &mut Cursor<R>,
    count: u64,
    extent: &mut Extent,
) -> Result<Vec<Tensor>, GgufError> {
    let mut tensors = Vec::new();
    for _ in 0..count {
        tensors.push(read_tensor(cursor, extent)?);
    }
    let mut names = HashSet::new();
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(GgufError::Damaged(format!("the tensor `{}` twice", twice.name.escape_default())));
    }
    Ok(tensors)
}

fn read_tensor<R: Read + Seek>(cursor: &mut Cursor<R>, extent: &mut Extent) -> Result<Tensor, GgufError> {
    let damaged = |what: &str| GgufError::Damaged(what.to_owned());
    let name = cursor.text(MAX_KEY)?.ok_or_else(|| damaged("a tensor whose name is none"))?;
    let count = cursor.u32()?;
    if count > MAX_DIMENSIONS {
        return Err(GgufError::Damaged(format!("a tensor of {count} dimensions")));
    }
    let mut dimensions = [1; 4];
    for dimension in dimensions.iter_mut().take(count as usize) {
        *dimension = cursor.u64()?;
    }
    let kind = cursor.u32()?;
    let offset = cursor.u64()?;
    // Elements are counted in 64 bits with a sign, by everybody who reads these files.
    let elements = dimensions.iter().try_fold(1_u64, |product, dimension| product.checked_mul(*dimension));
    let elements = elements.filter(|elements| i64::try_from(*elements).is_ok());
    let elements = elements.ok_or_else(|| damaged("a tensor larger than any file"))?;
    let bytes = match types::tensor_type(kind) {
        Some(kind) => {
            if !dimensions[0].is_multiple_of(kind.block) {
                let text = format!("a row of {} elements in blocks of {}", dimensions[0], kind.block);
                return Err(GgufError::Damaged(text));
            }
            let bytes = (elements / kind.block).checked_mul(kind.bytes);
            Some(bytes.ok_or_else(|| damaged("a tensor larger than any file"))?)
        }
        None => None,
    };
    if !offset.is_multiple_of(extent.alignment) || extent.next.is_some_and(|next| next != offset) {
        return Err(GgufError::Damaged(format!("a tensor at {offset}, not behind the one before it")));
    }
    let end = offset.checked_add(bytes.unwrap_or(0)).ok_or_else(|| damaged("a tensor larger than any file"))?;
    extent.end = extent.end.max(end);
    extent.next = extent.next.and(bytes).and_then(|_| end.checked_next_multiple_of(extent.alignment));
    Ok(Tensor { name, dimensions, kind, bytes })
}
