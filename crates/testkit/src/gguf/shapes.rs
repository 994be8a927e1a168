//! Models of the shapes of known ones, without their weights: the file has holes where those would be.
//!
//! They are for asking how much memory a model takes. `llama-server` loads them; what it answers is noise. The names of
//! keys and tensors are those that llama.cpp reads.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use corral_core::gguf::TensorType;

use super::format::{self, Metadata, TYPE_FLOAT32, TYPE_INT32, TYPE_STRING, TYPE_UINT32, put_string};
use super::{TOKEN_BYTE, TOKEN_CONTROL, TOKEN_NORMAL, TOKEN_UNKNOWN};

mod recipes;

pub use recipes::shapes;

/// A model whose file is as large as a known one's and takes no room on the disk.
#[derive(Debug, Clone)]
pub struct ShapedModel {
    /// What it is shaped after, for instance `qwen3-8b`.
    pub name: &'static str,
    architecture: &'static str,
    values: Vec<(String, Given)>,
    tensors: Vec<(String, Vec<u64>, u32)>,
    vocabulary: u64,
}

#[derive(Debug, Clone)]
enum Given {
    Number(u64),
    Fraction(f32),
    Numbers(Vec<u64>),
}

impl ShapedModel {
    /// The model of a name; none where there is none.
    pub fn named(name: &str) -> Option<Self> {
        shapes().into_iter().find(|shape| shape.name == name)
    }

    /// Writes the file and returns its size in bytes, most of it a hole.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        let mut metadata = Metadata::default();
        metadata.string("general.architecture", self.architecture);
        // Not its own name: llama.cpp looks for some of those and expects their tokens.
        metadata.string("general.name", &format!("a shape of {}", self.architecture));
        for (key, value) in &self.values {
            let key = format!("{}.{key}", self.architecture);
            let narrow = |value: u64| u32::try_from(value).expect("small");
            match value {
                Given::Number(number) => metadata.u32(&key, narrow(*number)),
                Given::Fraction(fraction) => metadata.f32(&key, *fraction),
                Given::Numbers(numbers) => metadata.array(&key, TYPE_UINT32, numbers, |number, out| {
                    out.extend_from_slice(&narrow(*number).to_le_bytes());
                }),
            }
        }
        self.tokens(&mut metadata);
        let listed = self.tensors.iter().map(|(name, dims, kind)| format::Listed {
            name,
            dims,
            kind: *kind,
            bytes: bytes_of(dims, *kind),
        });
        let (header, data) = format::header(&metadata, listed);
        let mut file = File::create(path)?;
        file.write_all(&header)?;
        let size = header.len() as u64 + data;
        file.set_len(size)?;
        Ok(size)
    }

    /// A vocabulary of the right size, of which only the bytes mean something.
    fn tokens(&self, metadata: &mut Metadata) {
        let token = |index: u64| match index {
            0 => ("<unk>".to_owned(), TOKEN_UNKNOWN),
            1 => ("<s>".to_owned(), TOKEN_CONTROL),
            2 => ("</s>".to_owned(), TOKEN_CONTROL),
            3..259 => (format!("<0x{:02X}>", index - 3), TOKEN_BYTE),
            // Phi asks for it.
            259 => ("<|endoftext|>".to_owned(), TOKEN_CONTROL),
            _ => (format!("t{index}"), TOKEN_NORMAL),
        };
        let tokens: Vec<(String, i32)> = (0..self.vocabulary).map(token).collect();
        metadata.string("tokenizer.ggml.model", "llama");
        metadata.string("tokenizer.ggml.pre", "default");
        metadata.array("tokenizer.ggml.tokens", TYPE_STRING, &tokens, |(text, _), out| put_string(out, text));
        metadata.array("tokenizer.ggml.scores", TYPE_FLOAT32, &tokens, |_, out| {
            out.extend_from_slice(&0_f32.to_le_bytes());
        });
        metadata.array("tokenizer.ggml.token_type", TYPE_INT32, &tokens, |(_, kind), out| {
            out.extend_from_slice(&kind.to_le_bytes());
        });
        metadata.u32("tokenizer.ggml.bos_token_id", 1);
        metadata.u32("tokenizer.ggml.eos_token_id", 2);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.values.push((key.to_owned(), Given::Number(value)));
    }

    fn numbers(&mut self, key: &str, values: Vec<u64>) {
        self.values.push((key.to_owned(), Given::Numbers(values)));
    }

    fn fraction(&mut self, key: &str, value: f32) {
        self.values.push((key.to_owned(), Given::Fraction(value)));
    }

    /// A matrix of the type that most of the model's have, or of F16 where its rows do not fill that type's blocks.
    fn matrix(&mut self, name: String, dims: &[u64], kind: u32) {
        let fits = corral_core::gguf::tensor_type(kind).is_some_and(|kind| dims[0].is_multiple_of(kind.block));
        self.tensors.push((name, dims.to_vec(), if fits { kind } else { super::GGML_F16 }));
    }

    /// A norm, a bias or something else that nobody quantises.
    fn plain(&mut self, name: String, dims: &[u64]) {
        self.tensors.push((name, dims.to_vec(), super::GGML_F32));
    }
}

fn bytes_of(dims: &[u64], kind: u32) -> u64 {
    corral_core::gguf::tensor_type(kind).map_or(0, |kind: TensorType| kind.bytes_of(dims.iter().product()))
}
