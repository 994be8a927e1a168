//! The numbers that GGUF files name types by.

// `gguf_metadata_value_type`
pub(super) const UINT8: u32 = 0;
pub(super) const INT8: u32 = 1;
pub(super) const UINT16: u32 = 2;
pub(super) const INT16: u32 = 3;
pub(super) const UINT32: u32 = 4;
pub(super) const INT32: u32 = 5;
pub(super) const FLOAT32: u32 = 6;
pub(super) const BOOL: u32 = 7;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;
pub(super) const UINT64: u32 = 10;
pub(super) const INT64: u32 = 11;
pub(super) const FLOAT64: u32 = 12;

/// The bytes of one metadata value, where all of its type have the same.
pub(super) fn width_of(kind: u32) -> Option<u64> {
    match kind {
        UINT8 | INT8 | BOOL => Some(1),
        UINT16 | INT16 => Some(2),
        UINT32 | INT32 | FLOAT32 => Some(4),
        UINT64 | INT64 | FLOAT64 => Some(8),
        _ => None,
    }
}

/// Whether it is a whole number of some width.
pub(super) fn is_whole(kind: u32) -> bool {
    matches!(kind, UINT8 | INT8 | UINT16 | INT16 | UINT32 | INT32 | UINT64 | INT64)
}

/// How a tensor's elements are kept: so many of them in a block of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    /// As `llama-server` writes it after `--cache-type-k`, for instance `q8_0`.
    pub name: &'static str,
    /// Number of elements in a block.
    pub block: u64,
    /// Bytes of a block.
    pub bytes: u64,
}

impl TensorType {
    /// The type of a name, for instance `q8_0`; none where it is not known here.
    pub fn named(name: &str) -> Option<Self> {
        (0..=LAST).filter_map(tensor_type).find(|kind| kind.name == name)
    }

    /// The bytes of so many elements, in whole blocks; the largest number where it would be more than that.
    pub fn bytes_of(self, elements: u64) -> u64 {
        elements.div_ceil(self.block).saturating_mul(self.bytes)
    }

    /// More than one element is in a block.
    pub fn is_quantised(self) -> bool {
        self.block > 1
    }
}

/// The largest `ggml_type` of the table.
const LAST: u32 = 42;

/// A `ggml_type` by its number, as `ggml.h` counts them; none for types newer than this table.
pub fn tensor_type(kind: u32) -> Option<TensorType> {
    let (name, block, bytes) = match kind {
        0 => ("f32", 1, 4),
        1 => ("f16", 1, 2),
        2 => ("q4_0", 32, 18),
        3 => ("q4_1", 32, 20),
        6 => ("q5_0", 32, 22),
        7 => ("q5_1", 32, 24),
        8 => ("q8_0", 32, 34),
        9 => ("q8_1", 32, 36),
        10 => ("q2_K", 256, 84),
        11 => ("q3_K", 256, 110),
        12 => ("q4_K", 256, 144),
        13 => ("q5_K", 256, 176),
        14 => ("q6_K", 256, 210),
        15 => ("q8_K", 256, 292),
        16 => ("iq2_xxs", 256, 66),
        17 => ("iq2_xs", 256, 74),
        18 => ("iq3_xxs", 256, 98),
        19 => ("iq1_s", 256, 50),
        20 => ("iq4_nl", 32, 18),
        21 => ("iq3_s", 256, 110),
        22 => ("iq2_s", 256, 82),
        23 => ("iq4_xs", 256, 136),
        24 => ("i8", 1, 1),
        25 => ("i16", 1, 2),
        26 => ("i32", 1, 4),
        27 => ("i64", 1, 8),
        28 => ("f64", 1, 8),
        29 => ("iq1_m", 256, 56),
        30 => ("bf16", 1, 2),
        34 => ("tq1_0", 256, 54),
        35 => ("tq2_0", 256, 66),
        39 => ("mxfp4", 32, 17),
        40 => ("nvfp4", 64, 36),
        41 => ("q1_0", 128, 18),
        42 => ("q2_0", 64, 18),
        _ => return None,
    };
    Some(TensorType { name, block, bytes })
}
