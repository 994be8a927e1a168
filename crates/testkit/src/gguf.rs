//! Model files for tests: a tiny `llama` model with random weights, padded ones, and broken ones.
//!
//! The format is "GGUF", version 3, as the `docs/gguf.md` specification of the ggml project describes it. The models
//! load in a real `llama-server` and answer with noise of printable characters.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

mod format;
mod random;
mod shapes;

pub use shapes::{ShapedModel, shapes};

use format::{ALIGNMENT, Metadata, TYPE_FLOAT32, TYPE_INT32, TYPE_STRING, put_string};
use random::Random;

// `ggml_type`
const GGML_F32: u32 = 0;
const GGML_F16: u32 = 1;
/// `general.file_type`: mostly F16.
const FILE_TYPE_MOSTLY_F16: u32 = 1;

// `llama_token_type`, as `tokenizer.ggml.token_type` holds it.
const TOKEN_NORMAL: i32 = 1;
const TOKEN_UNKNOWN: i32 = 2;
const TOKEN_CONTROL: i32 = 3;
const TOKEN_BYTE: i32 = 6;

/// Dimension of one attention head: what flash attention and a quantised KV cache ask for.
const HEAD: u64 = 64;

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A model with random weights, the same for the same fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyModel {
    /// Decides the weights.
    pub seed: u64,
    /// `general.name`.
    pub name: String,
    /// Trained context in tokens.
    pub context_length: u32,
    /// Grow the model until its file has about this many bytes (within 2 %); none: about 0.5 MB.
    pub pad_to_bytes: Option<u64>,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self::new(0)
    }
}

impl TinyModel {
    /// The small one, of about 0.5 MB.
    pub fn new(seed: u64) -> Self {
        Self { seed, name: format!("tiny-{seed}"), context_length: 131_072, pad_to_bytes: None }
    }

    /// One whose file has about `bytes` bytes.
    pub fn padded(seed: u64, bytes: u64) -> Self {
        Self { pad_to_bytes: Some(bytes), ..Self::new(seed) }
    }

    /// Writes the file and returns its size in bytes.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let size = self.write_to(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(size)
    }

    /// Writes the file's bytes, front to back, and returns their number.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        let shape = Shape::of_size(self.pad_to_bytes);
        let tokens = vocabulary();
        let tensors = shape.tensors(tokens.len() as u64);
        write_data(out, &self.metadata(&shape, &tokens), &tensors, &tokens, &mut Random::new(self.seed))
    }

    /// Writes the same model in several files, each of which says which part it is. Together they have the same
    /// tensors, in the same order.
    pub fn write_parts<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator>,
    ) -> io::Result<()> {
        let paths = paths.into_iter();
        let shape = Shape::of_size(self.pad_to_bytes);
        let tokens = vocabulary();
        let tensors = shape.tensors(tokens.len() as u64);
        let number = |number: usize| u32::try_from(number).expect("few");
        let (count, each) = (number(paths.len()), tensors.len().div_ceil(paths.len()));
        let mut random = Random::new(self.seed);
        for ((index, path), tensors_of) in paths.enumerate().zip(tensors.chunks(each)) {
            let mut metadata = if index == 0 { self.metadata(&shape, &tokens) } else { Metadata::default() };
            metadata.u32("split.no", number(index));
            metadata.u32("split.count", count);
            metadata.u32("split.tensors.count", number(tensors.len()));
            let mut out = BufWriter::new(File::create(path)?);
            write_data(&mut out, &metadata, tensors_of, &tokens, &mut random)?;
        }
        Ok(())
    }

    fn metadata(&self, shape: &Shape, tokens: &[Token]) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.string("general.architecture", "llama");
        metadata.string("general.name", &self.name);
        metadata.u32("general.file_type", FILE_TYPE_MOSTLY_F16);
        metadata.u32("general.alignment", u32::try_from(ALIGNMENT).expect("small"));
        metadata.u32("llama.context_length", self.context_length);
        for (key, value) in [
            ("llama.embedding_length", shape.width),
            ("llama.block_count", shape.layers),
            ("llama.feed_forward_length", shape.feed_forward),
            ("llama.attention.head_count", shape.heads),
            ("llama.attention.head_count_kv", 1),
            ("llama.attention.key_length", HEAD),
            ("llama.attention.value_length", HEAD),
            ("llama.rope.dimension_count", HEAD),
            ("llama.vocab_size", tokens.len() as u64),
        ] {
            metadata.u32(key, u32::try_from(value).expect("small"));
        }
        metadata.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        metadata.f32("llama.rope.freq_base", 500_000.0);
        metadata.string("tokenizer.ggml.model", "llama");
        metadata.string("tokenizer.ggml.pre", "default");
        metadata.array("tokenizer.ggml.tokens", TYPE_STRING, tokens, |token, out| put_string(out, &token.text));
        metadata.array("tokenizer.ggml.scores", TYPE_FLOAT32, tokens, |_, out| {
            out.extend_from_slice(&0_f32.to_le_bytes());
        });
        metadata.array("tokenizer.ggml.token_type", TYPE_INT32, tokens, |token, out| {
            out.extend_from_slice(&token.kind.to_le_bytes());
        });
        metadata.u32("tokenizer.ggml.unknown_token_id", 0);
        metadata.u32("tokenizer.ggml.bos_token_id", 1);
        metadata.u32("tokenizer.ggml.eos_token_id", 2);
        metadata.bool("tokenizer.ggml.add_bos_token", true);
        metadata.bool("tokenizer.ggml.add_space_prefix", false);
        metadata.string("tokenizer.chat_template", CHATML);
        metadata
    }
}

/// Writes header and data, and returns the number of bytes.
fn write_data(
    out: &mut impl Write,
    metadata: &Metadata,
    tensors: &[Tensor],
    tokens: &[Token],
    random: &mut Random,
) -> io::Result<u64> {
    let listed = tensors.iter().map(|tensor| format::Listed {
        name: &tensor.name,
        dims: &tensor.dims,
        kind: tensor.ggml_type(),
        bytes: tensor.bytes(),
    });
    let (header, data) = format::header(metadata, listed);
    out.write_all(&header)?;
    for tensor in tensors {
        tensor.write_data(out, tokens, random)?;
        let padding = tensor.bytes().next_multiple_of(ALIGNMENT) - tensor.bytes();
        out.write_all(&[0; 32][..usize::try_from(padding).expect("less than 32")])?;
    }
    out.flush()?;
    Ok(header.len() as u64 + data)
}

/// Writes the first half of a valid model file, as a download that was cut off leaves it.
pub fn truncated(path: impl AsRef<Path>) -> io::Result<()> {
    let mut bytes = Vec::new();
    TinyModel::default().write_to(&mut bytes)?;
    bytes.truncate(bytes.len() / 2);
    std::fs::write(path, bytes)
}

/// Writes what a download portal's error page leaves: a file with a GGUF's name that is not one.
pub fn not_a_gguf(path: impl AsRef<Path>) -> io::Result<()> {
    std::fs::write(path, "<!DOCTYPE html><html><body>Entry not found</body></html>\n")
}

/// The sizes that a file's size is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    width: u64,
    heads: u64,
    layers: u64,
    feed_forward: u64,
}

impl Shape {
    fn of_size(bytes: Option<u64>) -> Self {
        let Some(bytes) = bytes else {
            return Self { width: 64, heads: 2, layers: 2, feed_forward: 192 };
        };
        // A wide model with one KV head, rather than a deep one, keeps the KV cache small however large the file is.
        let (width, heads) = match bytes {
            0..4_000_000 => (64, 2),
            4_000_000..64_000_000 => (256, 4),
            _ => (1024, 16),
        };
        let fixed = Self { width, heads, layers: 1, feed_forward: 0 };
        let tokens = vocabulary().len() as u64;
        let outside = 2 * 2 * width * tokens + 12_000;
        let attention = fixed.attention_parameters() * 2;
        // Two layers at least; more once eight times the width is not enough for the feed-forward network.
        let layers = (bytes / (attention + 6 * width * 8 * width)).clamp(2, 500);
        let left = bytes.saturating_sub(outside + layers * attention);
        let feed_forward = (left / (layers * 6 * width)).next_multiple_of(32).max(32);
        Self { layers, feed_forward, ..fixed }
    }

    fn attention_parameters(&self) -> u64 {
        2 * self.width * self.heads * HEAD + 2 * self.width * HEAD
    }

    fn tensors(&self, tokens: u64) -> Vec<Tensor> {
        let Self { width, heads, layers, feed_forward } = *self;
        let mut tensors = vec![
            Tensor::matrix("token_embd.weight".to_owned(), width, tokens, Fill::Embedding),
            Tensor::norm("output_norm.weight".to_owned(), width),
            Tensor::matrix("output.weight".to_owned(), width, tokens, Fill::Output),
        ];
        for layer in 0..layers {
            let weights = |part: &str, from, to| {
                Tensor::matrix(format!("blk.{layer}.{part}.weight"), from, to, Fill::Weights { from })
            };
            tensors.push(Tensor::norm(format!("blk.{layer}.attn_norm.weight"), width));
            tensors.push(weights("attn_q", width, heads * HEAD));
            tensors.push(weights("attn_k", width, HEAD));
            tensors.push(weights("attn_v", width, HEAD));
            tensors.push(weights("attn_output", heads * HEAD, width));
            tensors.push(Tensor::norm(format!("blk.{layer}.ffn_norm.weight"), width));
            tensors.push(weights("ffn_gate", width, feed_forward));
            tensors.push(weights("ffn_up", width, feed_forward));
            tensors.push(weights("ffn_down", feed_forward, width));
        }
        tensors
    }
}

struct Tensor {
    name: String,
    /// The first is the row's length.
    dims: Vec<u64>,
    fill: Fill,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// All ones, F32.
    Ones,
    /// Random, of magnitude about 1.
    Embedding,
    /// Random where a token may be said, zero for the rest.
    Output,
    /// Random, of magnitude about 1/√inputs.
    Weights { from: u64 },
}

impl Tensor {
    fn matrix(name: String, from: u64, to: u64, fill: Fill) -> Self {
        Self { name, dims: vec![from, to], fill }
    }

    fn norm(name: String, width: u64) -> Self {
        Self { name, dims: vec![width], fill: Fill::Ones }
    }

    fn ggml_type(&self) -> u32 {
        if self.fill == Fill::Ones { GGML_F32 } else { GGML_F16 }
    }

    fn bytes(&self) -> u64 {
        self.dims.iter().product::<u64>() * if self.fill == Fill::Ones { 4 } else { 2 }
    }

    fn write_data(&self, out: &mut impl Write, tokens: &[Token], random: &mut Random) -> io::Result<()> {
        match self.fill {
            Fill::Ones => (0..self.dims[0]).try_for_each(|_| out.write_all(&1_f32.to_le_bytes())),
            Fill::Embedding => random.write_f16(out, self.bytes(), 0),
            Fill::Output => {
                // Rows of magnitude 1/4 give logits far enough above those of the silent tokens, which are 0.
                let row = self.dims[0] * 2;
                for token in tokens {
                    if token.said {
                        random.write_f16(out, row, 2)?;
                    } else {
                        io::copy(&mut io::Read::take(io::repeat(0), row), out)?;
                    }
                }
                Ok(())
            }
            Fill::Weights { from } => random.write_f16(out, self.bytes(), from.ilog2().div_ceil(2)),
        }
    }
}

struct Token {
    text: String,
    kind: i32,
    /// May come up in an answer.
    said: bool,
}

/// SentencePiece-style: every byte is a token, so any text can be read; answers are printable.
fn vocabulary() -> Vec<Token> {
    let token = |text: &str, kind, said| Token { text: text.to_owned(), kind, said };
    let mut tokens = vec![
        token("<unk>", TOKEN_UNKNOWN, false),
        token("<s>", TOKEN_CONTROL, false),
        token("</s>", TOKEN_CONTROL, true),
    ];
    for byte in 0..=u8::MAX {
        tokens.push(token(&format!("<0x{byte:02X}>"), TOKEN_BYTE, byte.is_ascii_graphic()));
    }
    tokens.push(token("<|im_start|>", TOKEN_CONTROL, false));
    tokens.push(token("<|im_end|>", TOKEN_CONTROL, true));
    // How SentencePiece writes a space.
    tokens.push(token("\u{2581}", TOKEN_NORMAL, true));
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(model: &TinyModel) -> Vec<u8> {
        let mut bytes = Vec::new();
        let size = model.write_to(&mut bytes).unwrap();
        assert_eq!(size, bytes.len() as u64);
        bytes
    }

    #[test]
    fn the_seed_alone_decides_the_weights() {
        let one = bytes(&TinyModel::new(1));
        assert_eq!(one, bytes(&TinyModel::new(1)));
        assert_ne!(one[one.len() / 2..], bytes(&TinyModel::new(2))[one.len() / 2..]);
        assert!((300_000..700_000).contains(&one.len()), "{}", one.len());
    }

    #[test]
    fn padding_reaches_the_size() {
        for wanted in [1_000_000_u64, 5_000_000, 30_000_000, 100_000_000] {
            let written = TinyModel::padded(1, wanted).write_to(&mut io::sink()).unwrap();
            assert!(written.abs_diff(wanted) < wanted / 50, "{written} of {wanted}");
        }
    }
}
