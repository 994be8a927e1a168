//! The shapes themselves: what the models' authors published, written as llama.cpp's converter writes it.

use super::ShapedModel;

// `ggml_type`
const F16: u32 = 1;
const Q4_0: u32 = 2;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;
const Q5_K: u32 = 13;
const Q6_K: u32 = 14;
const MXFP4: u32 = 39;

/// The sizes that most architectures share.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    width: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    head: u64,
    feed_forward: u64,
    vocabulary: u64,
    /// `ggml_type` of most matrices.
    kind: u32,
    /// The output matrix is the embedding's.
    tied: bool,
}

/// All shapes, each with a name of its own.
pub fn shapes() -> Vec<ShapedModel> {
    vec![
        llama("llama-2-7b", sizes(4096, 32, 32, 32, 128, 11_008, 32_000, Q4_0)),
        llama("llama-3.1-8b", sizes(4096, 32, 32, 8, 128, 14_336, 128_256, Q4_K)),
        llama("small-llama", sizes(256, 4, 4, 2, 64, 768, 2000, F16)),
        qwen2("qwen2.5-7b", sizes(3584, 28, 28, 4, 128, 18_944, 152_064, Q5_K)),
        qwen3("qwen3-8b", sizes(4096, 36, 32, 8, 128, 12_288, 151_936, Q6_K)),
        qwen3("small-qwen3", Sizes { tied: true, ..sizes(256, 4, 8, 2, 64, 1024, 4000, Q8_0) }),
        phi3("phi-3.5-mini", sizes(3072, 32, 32, 32, 96, 8192, 32_064, Q8_0)),
        gemma2("gemma-2-9b", Sizes { tied: true, ..sizes(3584, 42, 16, 8, 256, 14_336, 256_000, Q4_K) }),
        gemma3("gemma-3-12b", 1024, Sizes { tied: true, ..sizes(3840, 48, 16, 8, 256, 15_360, 262_208, Q8_0) }),
        gemma3("small-gemma3", 512, Sizes { tied: true, ..sizes(256, 12, 4, 2, 64, 1024, 4000, Q4_0) }),
        mixtral("mixtral-8x7b", (8, 2), sizes(4096, 32, 32, 8, 128, 14_336, 32_000, Q4_K)),
        mixtral("small-mixtral", (4, 2), sizes(256, 4, 4, 2, 64, 512, 2000, Q8_0)),
        qwen3moe("qwen3-30b-a3b", (128, 8, 768), sizes(2048, 48, 32, 4, 128, 6144, 151_936, Q4_K)),
        gpt_oss("gpt-oss-20b", (32, 4), sizes(2880, 24, 64, 8, 64, 2880, 201_088, MXFP4)),
        deepseek2("glm-4.7-flash", (64, 4, 1536), sizes(2048, 47, 20, 1, 576, 10_240, 154_880, Q4_K)),
        glm4moe("glm-4.5-air", (128, 8, 1408), sizes(4096, 47, 96, 8, 128, 10_944, 151_552, Q4_K)),
        qwen3next("qwen3-next-80b-a3b", (512, 10, 512), sizes(2048, 48, 16, 2, 256, 5120, 151_936, Q4_K)),
        // Of no tensor larger than 128 MiB, which is as much as a GPU in software takes.
        gemma3("narrow-gemma3", 1024, Sizes { tied: true, ..sizes(2560, 34, 8, 4, 256, 10_240, 32_000, Q8_0) }),
        qwen3moe("narrow-moe", (64, 8, 768), sizes(2048, 24, 32, 4, 128, 6144, 32_000, Q4_K)),
        mamba("mamba-2.8b", sizes(2560, 64, 0, 0, 0, 0, 50_280, F16)),
    ]
}

#[allow(clippy::too_many_arguments, reason = "a table's row, read with its head")]
fn sizes(
    width: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    head: u64,
    feed_forward: u64,
    vocabulary: u64,
    kind: u32,
) -> Sizes {
    Sizes { width, layers, heads, kv_heads, head, feed_forward, vocabulary, kind, tied: false }
}

/// What all have: the sizes, the embedding, the output.
fn base(name: &'static str, architecture: &'static str, s: Sizes) -> ShapedModel {
    let mut model =
        ShapedModel { name, architecture, values: Vec::new(), tensors: Vec::new(), vocabulary: s.vocabulary };
    for (key, value) in [
        ("context_length", 1 << 20),
        ("embedding_length", s.width),
        ("block_count", s.layers),
        ("feed_forward_length", s.feed_forward),
        ("vocab_size", s.vocabulary),
        ("attention.head_count", s.heads),
    ] {
        model.number(key, value);
    }
    if s.heads > 0 {
        model.number("attention.head_count_kv", s.kv_heads);
        model.number("attention.key_length", s.head);
        model.number("attention.value_length", s.head);
    }
    model.fraction("attention.layer_norm_rms_epsilon", 1e-6);
    model.fraction("rope.freq_base", 1_000_000.0);
    model.matrix("token_embd.weight".to_owned(), &[s.width, s.vocabulary], s.kind);
    model.plain("output_norm.weight".to_owned(), &[s.width]);
    if !s.tied {
        model.matrix("output.weight".to_owned(), &[s.width, s.vocabulary], Q6_K);
    }
    model
}

fn part(layer: u64, name: &str) -> String {
    format!("blk.{layer}.{name}")
}

/// Attention with a matrix each for Q, K, V and the output; `q` is how wide Q is beyond the heads.
fn attention(model: &mut ShapedModel, layer: u64, s: Sizes, q: u64) {
    model.plain(part(layer, "attn_norm.weight"), &[s.width]);
    model.matrix(part(layer, "attn_q.weight"), &[s.width, q * s.heads * s.head], s.kind);
    model.matrix(part(layer, "attn_k.weight"), &[s.width, s.kv_heads * s.head], s.kind);
    model.matrix(part(layer, "attn_v.weight"), &[s.width, s.kv_heads * s.head], s.kind);
    model.matrix(part(layer, "attn_output.weight"), &[s.heads * s.head, s.width], s.kind);
}

fn biases(model: &mut ShapedModel, layer: u64, s: Sizes) {
    model.plain(part(layer, "attn_q.bias"), &[s.heads * s.head]);
    model.plain(part(layer, "attn_k.bias"), &[s.kv_heads * s.head]);
    model.plain(part(layer, "attn_v.bias"), &[s.kv_heads * s.head]);
}

fn head_norms(model: &mut ShapedModel, layer: u64, s: Sizes) {
    model.plain(part(layer, "attn_q_norm.weight"), &[s.head]);
    model.plain(part(layer, "attn_k_norm.weight"), &[s.head]);
}

fn feed_forward(model: &mut ShapedModel, layer: u64, s: Sizes) {
    model.matrix(part(layer, "ffn_gate.weight"), &[s.width, s.feed_forward], s.kind);
    model.matrix(part(layer, "ffn_up.weight"), &[s.width, s.feed_forward], s.kind);
    model.matrix(part(layer, "ffn_down.weight"), &[s.feed_forward, s.width], s.kind);
}

fn experts(model: &mut ShapedModel, layer: u64, s: Sizes, (count, width): (u64, u64)) {
    model.plain(part(layer, "ffn_gate_inp.weight"), &[s.width, count]);
    model.matrix(part(layer, "ffn_gate_exps.weight"), &[s.width, width, count], s.kind);
    model.matrix(part(layer, "ffn_up_exps.weight"), &[s.width, width, count], s.kind);
    model.matrix(part(layer, "ffn_down_exps.weight"), &[width, s.width, count], s.kind);
}

fn shared_expert(model: &mut ShapedModel, layer: u64, s: Sizes, width: u64) {
    model.matrix(part(layer, "ffn_gate_shexp.weight"), &[s.width, width], s.kind);
    model.matrix(part(layer, "ffn_up_shexp.weight"), &[s.width, width], s.kind);
    model.matrix(part(layer, "ffn_down_shexp.weight"), &[width, s.width], s.kind);
}

fn expert_numbers(model: &mut ShapedModel, (count, used): (u64, u64)) {
    model.number("expert_count", count);
    model.number("expert_used_count", used);
}

fn llama(name: &'static str, s: Sizes) -> ShapedModel {
    let mut model = base(name, "llama", s);
    model.number("rope.dimension_count", s.head);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        feed_forward(&mut model, layer, s);
    }
    model
}

fn qwen2(name: &'static str, s: Sizes) -> ShapedModel {
    let mut model = base(name, "qwen2", s);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        biases(&mut model, layer, s);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        feed_forward(&mut model, layer, s);
    }
    model
}

fn qwen3(name: &'static str, s: Sizes) -> ShapedModel {
    let mut model = base(name, "qwen3", s);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        head_norms(&mut model, layer, s);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        feed_forward(&mut model, layer, s);
    }
    model
}

/// One matrix for Q, K and V, one for gate and up.
fn phi3(name: &'static str, s: Sizes) -> ShapedModel {
    let mut model = base(name, "phi3", s);
    model.number("rope.dimension_count", s.head);
    for layer in 0..s.layers {
        model.plain(part(layer, "attn_norm.weight"), &[s.width]);
        let qkv = (s.heads + 2 * s.kv_heads) * s.head;
        model.matrix(part(layer, "attn_qkv.weight"), &[s.width, qkv], s.kind);
        model.matrix(part(layer, "attn_output.weight"), &[s.heads * s.head, s.width], s.kind);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        model.matrix(part(layer, "ffn_up.weight"), &[s.width, 2 * s.feed_forward], s.kind);
        model.matrix(part(layer, "ffn_down.weight"), &[s.feed_forward, s.width], s.kind);
    }
    model
}

fn gemma2(name: &'static str, s: Sizes) -> ShapedModel {
    let mut model = base(name, "gemma2", s);
    model.number("attention.sliding_window", 4096);
    model.fraction("attn_logit_softcapping", 50.0);
    model.fraction("final_logit_softcapping", 30.0);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        model.plain(part(layer, "post_attention_norm.weight"), &[s.width]);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        feed_forward(&mut model, layer, s);
        model.plain(part(layer, "post_ffw_norm.weight"), &[s.width]);
    }
    model
}

fn gemma3(name: &'static str, window: u64, s: Sizes) -> ShapedModel {
    let mut model = base(name, "gemma3", s);
    model.number("attention.sliding_window", window);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        head_norms(&mut model, layer, s);
        model.plain(part(layer, "post_attention_norm.weight"), &[s.width]);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        feed_forward(&mut model, layer, s);
        model.plain(part(layer, "post_ffw_norm.weight"), &[s.width]);
    }
    model
}

fn mixtral(name: &'static str, (count, used): (u64, u64), s: Sizes) -> ShapedModel {
    let mut model = base(name, "llama", s);
    model.number("rope.dimension_count", s.head);
    expert_numbers(&mut model, (count, used));
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        experts(&mut model, layer, s, (count, s.feed_forward));
    }
    model
}

fn qwen3moe(name: &'static str, (count, used, width): (u64, u64, u64), s: Sizes) -> ShapedModel {
    let mut model = base(name, "qwen3moe", s);
    expert_numbers(&mut model, (count, used));
    model.number("expert_feed_forward_length", width);
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        head_norms(&mut model, layer, s);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        experts(&mut model, layer, s, (count, width));
    }
    model
}

fn gpt_oss(name: &'static str, (count, used): (u64, u64), s: Sizes) -> ShapedModel {
    // All but the experts are of Q8_0.
    let dense = Sizes { kind: Q8_0, ..s };
    let mut model = base(name, "gpt-oss", dense);
    model.number("attention.sliding_window", 128);
    expert_numbers(&mut model, (count, used));
    model.number("expert_feed_forward_length", s.feed_forward);
    for layer in 0..s.layers {
        attention(&mut model, layer, dense, 1);
        biases(&mut model, layer, s);
        model.plain(part(layer, "attn_output.bias"), &[s.width]);
        model.plain(part(layer, "attn_sinks.weight"), &[s.heads]);
        model.plain(part(layer, "post_attention_norm.weight"), &[s.width]);
        experts(&mut model, layer, s, (count, s.feed_forward));
        model.plain(part(layer, "ffn_gate_inp.bias"), &[count]);
        for (name, width) in [("gate", s.feed_forward), ("up", s.feed_forward), ("down", s.width)] {
            model.plain(part(layer, &format!("ffn_{name}_exps.bias")), &[width, count]);
        }
    }
    model
}

/// Multi-head latent attention: one compressed head of 512 + 64 in the cache.
fn deepseek2(name: &'static str, (count, used, width): (u64, u64, u64), s: Sizes) -> ShapedModel {
    const LORA_Q: u64 = 768;
    const LORA_KV: u64 = 512;
    const ROPE: u64 = 64;
    const NOPE: u64 = 192;
    const VALUE: u64 = 256;
    let mut model = base(name, "deepseek2", s);
    model.values.retain(|(key, _)| key != "attention.value_length");
    for (key, value) in [
        ("attention.value_length", LORA_KV),
        ("attention.q_lora_rank", LORA_Q),
        ("attention.kv_lora_rank", LORA_KV),
        ("attention.key_length_mla", NOPE + ROPE),
        ("attention.value_length_mla", VALUE),
        ("rope.dimension_count", ROPE),
        ("leading_dense_block_count", 1),
        ("expert_feed_forward_length", width),
        ("expert_shared_count", 1),
    ] {
        model.number(key, value);
    }
    expert_numbers(&mut model, (count, used));
    for layer in 0..s.layers {
        model.plain(part(layer, "attn_norm.weight"), &[s.width]);
        model.matrix(part(layer, "attn_q_a.weight"), &[s.width, LORA_Q], s.kind);
        model.plain(part(layer, "attn_q_a_norm.weight"), &[LORA_Q]);
        model.matrix(part(layer, "attn_q_b.weight"), &[LORA_Q, s.heads * (NOPE + ROPE)], s.kind);
        model.matrix(part(layer, "attn_kv_a_mqa.weight"), &[s.width, LORA_KV + ROPE], s.kind);
        model.plain(part(layer, "attn_kv_a_norm.weight"), &[LORA_KV]);
        model.matrix(part(layer, "attn_k_b.weight"), &[NOPE, LORA_KV, s.heads], Q8_0);
        model.matrix(part(layer, "attn_v_b.weight"), &[LORA_KV, VALUE, s.heads], Q8_0);
        model.matrix(part(layer, "attn_output.weight"), &[s.heads * VALUE, s.width], s.kind);
        model.plain(part(layer, "ffn_norm.weight"), &[s.width]);
        if layer == 0 {
            feed_forward(&mut model, layer, s);
        } else {
            experts(&mut model, layer, s, (count, width));
            model.plain(part(layer, "exp_probs_b.bias"), &[count]);
            shared_expert(&mut model, layer, s, width);
        }
    }
    model
}

/// The last layer only predicts further tokens: it is in the file and not loaded.
fn glm4moe(name: &'static str, (count, used, width): (u64, u64, u64), s: Sizes) -> ShapedModel {
    let mut model = base(name, "glm4moe", s);
    for (key, value) in [
        ("leading_dense_block_count", 1),
        ("expert_feed_forward_length", width),
        ("expert_shared_count", 1),
        ("nextn_predict_layers", 1),
        ("rope.dimension_count", s.head / 2),
    ] {
        model.number(key, value);
    }
    expert_numbers(&mut model, (count, used));
    for layer in 0..s.layers {
        attention(&mut model, layer, s, 1);
        biases(&mut model, layer, s);
        model.plain(part(layer, "post_attention_norm.weight"), &[s.width]);
        if layer == 0 {
            feed_forward(&mut model, layer, s);
        } else {
            experts(&mut model, layer, s, (count, width));
            model.plain(part(layer, "exp_probs_b.bias"), &[count]);
            shared_expert(&mut model, layer, s, width);
        }
        if layer == s.layers - 1 {
            model.matrix(part(layer, "nextn.eh_proj.weight"), &[2 * s.width, s.width], s.kind);
            for norm in ["enorm", "hnorm", "shared_head_norm"] {
                model.plain(part(layer, &format!("nextn.{norm}.weight")), &[s.width]);
            }
        }
    }
    model
}

/// Three layers of four keep a state of fixed size instead of a cache.
fn qwen3next(name: &'static str, (count, used, width): (u64, u64, u64), s: Sizes) -> ShapedModel {
    const STATE: u64 = 128;
    const KEY_HEADS: u64 = 16;
    const VALUE_HEADS: u64 = 32;
    const CONVOLUTION: u64 = 4;
    let (keys, values) = (STATE * KEY_HEADS, STATE * VALUE_HEADS);
    let mut model = base(name, "qwen3next", s);
    for (key, value) in [
        ("ssm.conv_kernel", CONVOLUTION),
        ("ssm.inner_size", values),
        ("ssm.state_size", STATE),
        ("ssm.time_step_rank", VALUE_HEADS),
        ("ssm.group_count", KEY_HEADS),
        ("full_attention_interval", 4),
        ("expert_feed_forward_length", width),
        ("expert_shared_feed_forward_length", width),
        ("rope.dimension_count", 64),
    ] {
        model.number(key, value);
    }
    expert_numbers(&mut model, (count, used));
    for layer in 0..s.layers {
        if (layer + 1) % 4 == 0 {
            attention(&mut model, layer, s, 2);
            head_norms(&mut model, layer, s);
        } else {
            model.plain(part(layer, "attn_norm.weight"), &[s.width]);
            model.matrix(part(layer, "attn_qkv.weight"), &[s.width, 2 * keys + values], s.kind);
            model.matrix(part(layer, "attn_gate.weight"), &[s.width, values], s.kind);
            model.plain(part(layer, "ssm_conv1d.weight"), &[CONVOLUTION, 2 * keys + values]);
            model.plain(part(layer, "ssm_dt.bias"), &[VALUE_HEADS]);
            model.plain(part(layer, "ssm_a"), &[VALUE_HEADS]);
            model.matrix(part(layer, "ssm_ba.weight"), &[s.width, 2 * VALUE_HEADS], s.kind);
            model.plain(part(layer, "ssm_norm.weight"), &[STATE]);
            model.matrix(part(layer, "ssm_out.weight"), &[values, s.width], s.kind);
        }
        model.plain(part(layer, "post_attention_norm.weight"), &[s.width]);
        experts(&mut model, layer, s, (count, width));
        model.plain(part(layer, "ffn_gate_inp_shexp.weight"), &[s.width]);
        shared_expert(&mut model, layer, s, width);
    }
    model
}

/// No attention at all: each sequence has a state of fixed size.
fn mamba(name: &'static str, s: Sizes) -> ShapedModel {
    const STATE: u64 = 16;
    const CONVOLUTION: u64 = 4;
    let (inner, rank) = (2 * s.width, s.width / 16);
    let mut model = base(name, "mamba", s);
    for (key, value) in [
        ("ssm.conv_kernel", CONVOLUTION),
        ("ssm.inner_size", inner),
        ("ssm.state_size", STATE),
        ("ssm.time_step_rank", rank),
    ] {
        model.number(key, value);
    }
    model.numbers("attention.head_count_kv", vec![0; usize::try_from(s.layers).expect("few")]);
    for layer in 0..s.layers {
        model.plain(part(layer, "attn_norm.weight"), &[s.width]);
        model.matrix(part(layer, "ssm_in.weight"), &[s.width, 2 * inner], s.kind);
        model.plain(part(layer, "ssm_conv1d.weight"), &[CONVOLUTION, inner]);
        model.plain(part(layer, "ssm_conv1d.bias"), &[inner]);
        model.matrix(part(layer, "ssm_x.weight"), &[inner, rank + 2 * STATE], s.kind);
        model.matrix(part(layer, "ssm_dt.weight"), &[rank, inner], s.kind);
        model.plain(part(layer, "ssm_dt.bias"), &[inner]);
        model.plain(part(layer, "ssm_a"), &[STATE, inner]);
        model.plain(part(layer, "ssm_d"), &[inner]);
        model.matrix(part(layer, "ssm_out.weight"), &[inner, s.width], s.kind);
    }
    model
}
