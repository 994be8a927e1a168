//! The bytes of a GGUF header.

/// The magic number at the start of the file.
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Tensor data begins, and each tensor's data ends, at a multiple of this.
pub(super) const ALIGNMENT: u64 = 32;

// `gguf_metadata_value_type`
pub(super) const TYPE_UINT32: u32 = 4;
pub(super) const TYPE_INT32: u32 = 5;
pub(super) const TYPE_FLOAT32: u32 = 6;
const TYPE_BOOL: u32 = 7;
pub(super) const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// One tensor, as the header lists it.
pub(super) struct Listed<'a> {
    pub(super) name: &'a str,
    /// The first is the row's length.
    pub(super) dims: &'a [u64],
    /// `ggml_type`
    pub(super) kind: u32,
    /// The size of its data, without padding.
    pub(super) bytes: u64,
}

/// The header of a file, padded to where the tensors' data begin, and the size of all that data, padding included.
pub(super) fn header<'a>(metadata: &Metadata, tensors: impl ExactSizeIterator<Item = Listed<'a>>) -> (Vec<u8>, u64) {
    let mut header = Vec::new();
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    header.extend_from_slice(&metadata.count.to_le_bytes());
    header.extend_from_slice(&metadata.bytes);
    let mut offset = 0_u64;
    for tensor in tensors {
        put_string(&mut header, tensor.name);
        header.extend_from_slice(&u32::try_from(tensor.dims.len()).expect("few dimensions").to_le_bytes());
        for dim in tensor.dims {
            header.extend_from_slice(&dim.to_le_bytes());
        }
        header.extend_from_slice(&tensor.kind.to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        offset += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(32), 0);
    (header, offset)
}

#[derive(Default)]
pub(super) struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        put_string(&mut self.bytes, key);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        &mut self.bytes
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        put_string(self.key(key, TYPE_STRING), value);
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, TYPE_UINT32).extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, TYPE_FLOAT32).extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.key(key, TYPE_BOOL).push(u8::from(value));
    }

    pub(super) fn array<T>(&mut self, key: &str, kind: u32, items: &[T], put: impl Fn(&T, &mut Vec<u8>)) {
        let out = self.key(key, TYPE_ARRAY);
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(items.len() as u64).to_le_bytes());
        for item in items {
            put(item, out);
        }
    }
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
