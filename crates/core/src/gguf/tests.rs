use std::io::Cursor;

use corral_testkit::TinyModel;
use proptest::prelude::*;

use super::*;

fn tiny() -> Vec<u8> {
    let mut bytes = Vec::new();
    TinyModel::new(7).write_to(&mut bytes).unwrap();
    bytes
}

/// A header of one tensor and the given metadata, written apart from the testkit's writer.
fn header(tensor_type: u32, dims: &[u64], metadata: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = [&MAGIC[..], &3_u32.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, kind, value) in metadata {
        bytes.extend([text(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
    }
    bytes.extend(text("weight"));
    bytes.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
    for dim in dims {
        bytes.extend(dim.to_le_bytes());
    }
    bytes.extend(tensor_type.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

fn code(bytes: &[u8]) -> Code {
    inspect(Cursor::new(bytes)).unwrap_err().of_file(Path::new("m.gguf")).code()
}

#[test]
fn a_whole_file_tells_what_it_is() {
    let bytes = tiny();
    let summary = inspect(Cursor::new(&bytes)).unwrap();
    assert_eq!(summary.architecture.as_deref(), Some("llama"));
    assert_eq!(summary.name.as_deref(), Some("tiny-7"));
    assert_eq!(summary.file_type, Some(1));
    assert_eq!(summary.context_length, Some(131_072));
    assert_eq!(summary.split, None);
    assert_eq!(summary.tensors, 21);
    assert_eq!(summary.described_bytes, Some(bytes.len() as u64));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = tiny();
    for length in (4..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        assert_eq!(code(&bytes[..length]), Code::ModelFileTruncated, "cut after {length} bytes");
    }
    for length in 0..4 {
        assert_eq!(code(&bytes[..length]), Code::ModelFileInvalid);
    }
}

#[test]
fn the_message_names_both_sizes() {
    let mut bytes = header(12, &[256, 32_000_000], &[]);
    bytes.resize(1_250_000, 0);
    let error = inspect(Cursor::new(&bytes)).unwrap_err().of_file(Path::new("/m/x.gguf"));
    assert_eq!(error.to_string(), "`/m/x.gguf` is 1.2 MB but its header describes 4.6 GB: the download was cut off");
    assert_eq!(error.body().hint.as_deref(), Some("download it again"));
    assert_eq!(sizes(1_000_000_001, 1_000_000_002), ("1000000001 bytes".to_owned(), "1000000002 bytes".to_owned()));
}

#[test]
fn quantised_tensors_have_their_size() {
    // Q4_K: 144 bytes for 256 elements.
    let mut bytes = header(12, &[512, 3], &[]);
    bytes.resize(bytes.len() + 6 * 144, 0);
    assert!(inspect(Cursor::new(&bytes)).is_ok());
    bytes.pop();
    assert_eq!(code(&bytes), Code::ModelFileTruncated);
}

#[test]
fn an_unknown_type_claims_nothing() {
    let bytes = header(9999, &[1 << 40], &[]);
    assert_eq!(inspect(Cursor::new(&bytes)).unwrap().described_bytes, None);
}

#[test]
fn parts_are_told_whatever_the_width_of_their_numbers() {
    let metadata = [
        ("x.context_length", types::UINT64, 99_u64.to_le_bytes().to_vec()),
        ("split.no", types::UINT16, 2_u16.to_le_bytes().to_vec()),
        ("split.count", types::INT32, 3_i32.to_le_bytes().to_vec()),
        ("general.architecture", types::STRING, [&1_u64.to_le_bytes()[..], b"x"].concat()),
    ];
    let summary = inspect(Cursor::new(header(0, &[0], &metadata))).unwrap();
    assert_eq!(summary.split, Some(Split { index: 2, count: 3 }));
    assert_eq!(summary.context_length, Some(99));
}

#[test]
fn other_versions_are_named() {
    let mut bytes = tiny();
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    assert!(matches!(inspect(Cursor::new(&bytes)), Err(GgufError::Version(1))));
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(matches!(inspect(Cursor::new(&bytes)), Err(GgufError::BigEndian)));
}

#[test]
fn huge_numbers_are_damage_and_cost_nothing() {
    let array = |items: u32, count: u64| [&items.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for value in [
        (types::STRING, u64::MAX.to_le_bytes().to_vec()),
        (types::ARRAY, array(types::UINT64, u64::MAX)),
        (types::ARRAY, array(types::UINT64, u64::MAX / 8)),
        (types::ARRAY, array(99, 1)),
        (99, Vec::new()),
    ] {
        let bytes = header(0, &[1], &[("k", value.0, value.1)]);
        assert_eq!(code(&bytes), Code::ModelFileInvalid);
    }
    assert_eq!(code(&header(0, &[u64::MAX, 2], &[])), Code::ModelFileInvalid);
    assert_eq!(code(&header(0, &[1; 5], &[])), Code::ModelFileInvalid);
    let zero = ("general.alignment", types::UINT32, vec![0; 4]);
    assert_eq!(code(&header(0, &[1], &[zero])), Code::ModelFileInvalid);
    // Counts far beyond the file end with it.
    let mut bytes = tiny();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(inspect(Cursor::new(&bytes)).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(rest in prop::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
        let start: &[u8] = if magic { b"GGUF\x03\0\0\0" } else { b"" };
        let _ = inspect(Cursor::new([start, &rest].concat()));
    }

    #[test]
    fn a_mutated_header_never_panics(changes in prop::collection::vec((0_usize..12_000, any::<u8>()), 1..8)) {
        let mut bytes = tiny();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _ = inspect(Cursor::new(bytes));
    }

    #[test]
    fn a_mutated_length_never_panics(at in 0_usize..12_000, length in any::<u64>()) {
        let mut bytes = tiny();
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        let _ = inspect(Cursor::new(bytes));
    }
}
