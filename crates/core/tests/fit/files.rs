//! What files and logs say, whatever it is.

use super::*;

#[test]
fn breakdowns_are_read_from_the_log() {
    let line = r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[
        {"kind":"device","name":"CUDA0","total":24000,"free":1,"self":9,"model":5,"context":3,"compute":1,
            "unaccounted":-2},
        {"kind":"device","name":"CUDA1","model":1,"context":1,"compute":1,"unaccounted":400},
        {"kind":"host","name":"Host","self":3,"model":1,"context":1,"compute":1},
        {"kind":"buffer_type","name":"CPU_REPACK","self":7,"model":7,"context":0,"compute":0}]}}"#;
    let taken = Taken::of_line(line).unwrap();
    assert_eq!(taken.names, ["CUDA0", "CUDA1"]);
    assert_eq!((taken.need.gpus[0].total(), taken.need.gpus[1].overhead), (9 * MIB, 400 * MIB));
    assert_eq!(taken.need.host.weights, 8 * MIB);
    for other in ["", "{", "{\"type\":\"log\"}", &line.replace("MiB", "KiB"), &line.replace("rows", "lines")] {
        assert_eq!(Taken::of_line(other), None);
    }
}

#[test]
fn every_shape_is_understood_and_more_context_never_needs_less() {
    for shape in shapes() {
        let model = architecture(shape.name);
        let mut last = 0;
        for ctx in [4096, 16_384, 65_536, 262_144] {
            let need = estimate(&model, &profile(ctx, &[]), &Placement { gpus: Vec::new(), layers: 0 }).host.total();
            assert!(need >= last, "{} with {ctx}", shape.name);
            last = need;
        }
    }
}

#[test]
fn files_without_the_figures_are_refused() {
    for model in [
        model_of("llama", &[]),
        minimal("llama", 0, &[]),
        minimal("llama", 513, &[]),
        minimal("llama", 2, &[("nextn_predict_layers", Value::Number(2))]),
        model_of("llama", &[("embedding_length", Value::Number(u64::MAX)), ("block_count", Value::Number(1))]),
    ] {
        let error = Architecture::of(&model).unwrap_err();
        assert_eq!(error.code(), corral_core::Code::ModelFileInvalid);
    }
}

const KEYS: [&str; 16] = [
    "embedding_length",
    "block_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_used_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.conv_kernel",
    "embedding_length_per_layer_input",
    "kda.head_dim",
];

proptest! {
    #[test]
    fn no_figures_make_the_arithmetic_overflow(
        figures in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..600, Just(1 << 32)], KEYS.len()),
        name in prop::sample::select(vec!["llama", "gemma3", "qwen3next", "mamba", "kimi-linear", "llama4"]),
        tensor in any::<u64>(),
        (ctx, slots, batch) in (any::<u32>(), any::<u32>(), any::<u32>()),
        layers in any::<u32>(),
        free in any::<u64>(),
    ) {
        let values: Vec<_> = KEYS.into_iter().zip(figures.into_iter().map(Value::Number)).collect();
        let mut model = model_of(name, &values);
        model.values.insert(format!("{name}.block_count"), Value::Number(3));
        for name in ["blk.0.ffn_up_exps.weight", "blk.1.attn_q.weight", "token_embd.weight", "output.weight"] {
            model.tensors.push(Tensor { name: name.to_owned(), dimensions: [1; 4], kind: 0, bytes: Some(tensor) });
        }
        if let Ok(architecture) = Architecture::of(&model) {
            let profile = Profile { ctx, parallel: slots, micro_batch: batch, batch, ..profile(4096, &[]) };
            for gpus in [Vec::new(), vec![1.0, f64::NAN], vec![0.0]] {
                let need = estimate(&architecture, &profile, &Placement { gpus, layers });
                let _ = Correction::learn(&need, &need).apply(&need).vram();
            }
            let memory = Memory { total: free, free, given_back: free, ..Memory::default() };
            let machine = Machine { gpus: vec![memory.clone()], host: memory };
            let _ = judge(&architecture, &profile, &machine, &Correction::default());
        }
    }
}

#[test]
fn types_of_caches_are_known_by_their_names() {
    assert!(
        ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
            .map(TensorType::named)
            .iter()
            .all(Option::is_some)
    );
}
