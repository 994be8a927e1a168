use std::io::Cursor;

use corral_testkit::TinyModel;
use proptest::prelude::*;

use super::*;

fn tiny() -> Vec<u8> {
    let mut bytes = Vec::new();
    TinyModel::new(7).write_to(&mut bytes).unwrap();
    bytes
}

const MAGIC: [u8; 4] = *b"GGUF";

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

#[test]
fn everything_is_read_that_decides_how_much_memory_it_takes() {
    let header = read(Cursor::new(tiny())).unwrap();
    assert_eq!(header.number("llama.block_count"), Some(2));
    assert_eq!(header.value("llama.rope.freq_base"), Some(&Value::Fraction(500_000.0)));
    assert_eq!(header.value("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(true)));
    assert_eq!(header.value("tokenizer.ggml.tokens"), Some(&Value::Items(262)));
    let embedding = &header.tensors[0];
    assert_eq!((embedding.name.as_str(), embedding.dimensions), ("token_embd.weight", [64, 262, 1, 1]));
    assert_eq!((embedding.kind, embedding.bytes), (1, Some(64 * 262 * 2)));
    assert_eq!(header.tensors.len(), 21);
}

#[test]
fn numbers_for_each_layer_are_kept_and_long_lists_are_counted() {
    let array = |items: u32, values: &[u32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [&items.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &bytes].concat()
    };
    let metadata = [
        ("x.a", types::ARRAY, array(types::UINT32, &[3, 0, 5])),
        ("x.b", types::ARRAY, array(types::INT32, &[7, u32::MAX])),
        ("x.c", types::ARRAY, array(types::UINT32, &[1; 1025])),
        ("x.d", types::ARRAY, [&types::BOOL.to_le_bytes()[..], &2_u64.to_le_bytes(), &[1, 0]].concat()),
        ("x.e", types::INT32, (-1_i32).to_le_bytes().to_vec()),
    ];
    let header = read(Cursor::new(header(0, &[0], &metadata))).unwrap();
    assert_eq!(header.value("x.a"), Some(&Value::Numbers(vec![3, 0, 5])));
    assert_eq!(header.value("x.b"), Some(&Value::Numbers(vec![7, 0])));
    assert_eq!(header.value("x.c"), Some(&Value::Items(1025)));
    assert_eq!(header.value("x.d"), Some(&Value::Numbers(vec![1, 0])));
    assert_eq!(header.value("x.e"), None);
}

#[test]
fn sizes_are_those_of_ggml() {
    for (name, elements, bytes) in [
        ("f16", 4096, 8192),
        ("bf16", 4096, 8192),
        ("q4_0", 4096, 2304),
        ("q8_0", 4096, 4352),
        ("q4_K", 4096, 2304),
        ("q6_K", 4096, 3360),
        ("iq4_nl", 4096, 2304),
        ("mxfp4", 4096, 2176),
        ("nvfp4", 4096, 2304),
    ] {
        assert_eq!(TensorType::named(name).unwrap().bytes_of(elements), bytes, "{name}");
    }
    assert_eq!(TensorType::named("q9_9"), None);
    // A row has whole blocks.
    assert_eq!(code(&header(12, &[128, 2], &[])), Code::ModelFileInvalid);
}

#[test]
fn what_no_loader_takes_is_damage() {
    let twice = [("k", types::UINT32, vec![1, 0, 0, 0]), ("k", types::UINT32, vec![1, 0, 0, 0])];
    assert_eq!(code(&header(0, &[1], &twice)), Code::ModelFileInvalid);
    let long = "k".repeat(300);
    assert_eq!(code(&header(0, &[1], &[(&long, types::UINT32, vec![0; 4])])), Code::ModelFileInvalid);
    // The second tensor's offset: it has to lie behind the first, and on a multiple of the alignment.
    let mut bytes = tiny();
    let name = b"output_norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8 + 4;
    for offset in [0_u64, 1, 32, u64::MAX - 31] {
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        assert_eq!(code(&bytes), Code::ModelFileInvalid, "at {offset}");
    }
    // The same name again.
    let mut bytes = tiny();
    let second = bytes.windows(14).rposition(|window| window == b"blk.1.attn_q.w").unwrap();
    bytes[second..second + 14].copy_from_slice(b"blk.0.attn_q.w");
    assert_eq!(code(&bytes), Code::ModelFileInvalid);
}

/// The headers of a model in parts, each of which says which it is.
fn in_parts(said: &[(u64, u64)]) -> Vec<Header> {
    let part = |no: u64, count: u64| {
        let metadata = [
            ("general.architecture", types::STRING, [&1_u64.to_le_bytes()[..], b"x"].concat()),
            ("split.no", types::UINT64, no.to_le_bytes().to_vec()),
            ("split.count", types::UINT64, count.to_le_bytes().to_vec()),
            ("split.tensors.count", types::UINT64, (said.len() as u64).to_le_bytes().to_vec()),
        ];
        read(Cursor::new(header(0, &[0], &metadata))).unwrap()
    };
    said.iter().map(|(no, count)| part(*no, *count)).collect()
}

#[test]
fn parts_are_joined_if_each_is_the_one_that_is_meant() {
    let model = Model::join(in_parts(&[(0, 3), (1, 3), (2, 3)])).unwrap();
    assert_eq!((model.architecture.as_str(), model.tensors.len()), ("x", 3));
    for (wrong, said) in [
        // A part that is the first once more, as by a link.
        (1, &[(0, 3), (0, 3), (2, 3)][..]),
        (1, &[(0, 3), (2, 3), (1, 3)]),
        (1, &[(0, 2), (1, 3)]),
        (0, &[(1, 2), (1, 2)]),
        (0, &[(0, 3), (1, 3)]),
        (0, &[(0, 1 << 63)]),
        (0, &[(u64::MAX - 1, 2)]),
    ] {
        assert_eq!(Model::join(in_parts(said)).unwrap_err().0, wrong, "{said:?}");
    }
    let mut parts = in_parts(&[(0, 2), (1, 2)]);
    parts[1].tensors.clear();
    assert_eq!(Model::join(parts).unwrap_err().0, 1, "one tensor is missing");
    assert!(Model::join(Vec::new()).is_err());
}

#[test]
fn the_header_cut_at_every_64th_byte_is_refused() {
    let bytes = tiny();
    for length in (64..bytes.len()).step_by(64) {
        assert_eq!(code(&bytes[..length]), Code::ModelFileTruncated, "cut after {length} bytes");
    }
}

#[test]
fn lengths_of_two_to_the_63_are_damage_and_cost_nothing() {
    let huge = 1_u64 << 63;
    let array = |items: u32| [&items.to_le_bytes()[..], &huge.to_le_bytes()].concat();
    let mut values = vec![(types::STRING, huge.to_le_bytes().to_vec())];
    values.extend([0, 4, 5, 6, 7, 8, 9, 10, 12].map(|items| (types::ARRAY, array(items))));
    for (kind, value) in values {
        // The counts of such arrays of texts or arrays end with the file, the others are seen at once.
        assert!(read(Cursor::new(header(0, &[1], &[("k", kind, value)]))).is_err());
    }
    assert_eq!(code(&header(0, &[huge], &[])), Code::ModelFileInvalid);
    for at in [8, 16] {
        let mut bytes = tiny();
        bytes[at..at + 8].copy_from_slice(&huge.to_le_bytes());
        assert_eq!(code(&bytes), Code::ModelFileInvalid);
    }
    // The length of the first key, and of the first tensor's name.
    let bytes = tiny();
    let name = bytes.windows(17).position(|window| window == b"token_embd.weight").unwrap() - 8;
    for at in [24, name] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&huge.to_le_bytes());
        assert_eq!(code(&bytes), Code::ModelFileInvalid);
    }
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
