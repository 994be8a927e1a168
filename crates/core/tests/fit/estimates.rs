//! What a model takes, and where.

use super::*;

#[test]
fn weights_are_all_tensors_and_the_cache_is_what_each_layer_keeps() {
    let needed = on_host("llama-3.1-8b", 4096, &[]);
    assert_eq!(needed.weights / MIB, 4437);
    // 32 layers, 8 heads of 128, K and V, two bytes each; and the logits of one token.
    assert_eq!(needed.kv, 32 * 8 * 128 * 2 * 2 * 4096 + 128_256 * 4);
    let quantised = on_host("llama-3.1-8b", 4096, &["-ctk", "q8_0", "-ctv", "q8_0"]);
    assert_eq!(quantised.kv, 32 * 2 * (8 * 128 / 32 * 34) * 4096 + 128_256 * 4);
    // Latent attention caches one compressed head, and no V.
    assert_eq!(on_host("glm-4.7-flash", 4096, &[]).kv, 47 * 576 * 2 * 4096 + 154_880 * 4);
    // The layer that predicts further tokens is in the file and not in memory.
    let air = architecture("glm-4.5-air");
    assert_eq!((air.layers.len(), air.weights() / MIB), (46, 103_510));
}

#[test]
fn slots_have_a_part_each_unless_they_share() {
    for (args, cells) in [
        (&["-np", "1"][..], (5120, 1)),
        (&["-np", "3"], (1792, 3)),
        (&["-np", "3", "-kvu"], (5120, 1)),
        (&["-np", "-1"], (5120, 1)),
    ] {
        assert_eq!(profile(5000, args).cells(), cells, "{args:?}");
    }
    assert_eq!(profile(0, &["-np", "4000"]).cells(), (256, 4000));
}

#[test]
fn windows_are_where_llama_cpp_has_them() {
    let window = ("attention.sliding_window", Value::Number(512));
    assert_eq!(full(&minimal("gemma3", 12, std::slice::from_ref(&window))), [5, 11]);
    assert_eq!(full(&minimal("gemma3", 3, &[])), [0, 1, 2]);
    assert_eq!(full(&minimal("gemma2", 4, &[])), [1, 3]);
    assert_eq!(full(&minimal("cohere2moe", 8, std::slice::from_ref(&window))), [0, 4]);
    // Others have the key too, and see everything.
    assert_eq!(full(&minimal("phi3", 2, std::slice::from_ref(&window))), [0, 1]);
    let named = [window.clone(), ("attention.sliding_window_pattern", Value::Numbers(vec![1, 0, 1]))];
    assert_eq!(full(&minimal("step35", 4, &named)), [1, 3]);
    let period = [window, ("attention.sliding_window_pattern", Value::Number(2))];
    assert_eq!(full(&minimal("gemma3", 4, &period)), [1, 3]);

    let gemma = |args: &[&str]| on_host("gemma-3-12b", 32_768, args).kv / MIB;
    // 8 layers see everything; 40 see 1024, and cache a micro-batch more, in units of 256.
    assert_eq!(gemma(&[]), (8 * 32_768 + 40 * 1536) * 8192 / MIB + 1);
    assert_eq!(gemma(&["--swa-full"]), 48 * 32_768 * 8192 / MIB + 1);
}

#[test]
fn layers_with_a_state_have_no_cache() {
    let next = architecture("qwen3-next-80b-a3b");
    let (cached, states): (Vec<&Layer>, Vec<&Layer>) = next.layers.iter().partition(|layer| layer.k > 0);
    assert_eq!((cached.len(), states.len()), (12, 36));
    assert!(states.iter().all(|layer| layer.state == 3 * (4096 + 2 * 16 * 128) + 128 * 4096 && layer.v == 0));
    let mamba = |slots: &str| on_host("mamba-2.8b", 65_536, &["-np", slots]).kv;
    assert_eq!(mamba("4"), 4 * mamba("1"), "a state is for a sequence, however long");
}

#[test]
fn arguments_are_read_as_llama_server_reads_them() {
    type Change = fn(&mut Profile);
    let table: [(&[&str], Change); 14] = [
        (&["--ctx-size", "9"], |p| p.ctx = 9),
        (&["-ub=64"], |p| p.micro_batch = 64),
        (&["-b", "100"], |p| p.batch = 100),
        (&["-np", "2"], |p| p.parallel = 2),
        (&["-fa", "off"], |p| p.flash_attention = false),
        (&["-fa", "auto"], |_| {}),
        (&["--swa-full"], |p| p.full_windows = true),
        (&["-nkvo"], |p| p.offload_cache = false),
        (&["-ngl", "auto"], |_| {}),
        (&["-ngl", "0"], |p| p.gpu_layers = GpuLayers::Count(0)),
        (&["-ngl", "7", "--no-repack"], |p| {
            p.gpu_layers = GpuLayers::Count(7);
            p.repack = false;
        }),
        (&["--n-cpu-moe", "3"], |p| p.cpu_moe = Some(CpuMoe::Layers(3))),
        (&["-ot", "exps=CPU"], |p| p.rough = true),
        (&["-c", "many", "-ctk", "q9", "-np", "-7", "--ctx-size"], |_| {}),
    ];
    for (args, change) in table {
        let mut expected = profile(4096, &[]);
        change(&mut expected);
        assert_eq!(profile(4096, args), expected, "{args:?}");
    }
    let mut spec = launch_spec("m");
    spec.env.insert("LLAMA_ARG_UBATCH".to_owned(), "1024".to_owned());
    spec.cache_type_k = Some("q8_0".to_owned());
    spec.override_tensor = vec!["a=CPU".to_owned()];
    let read = Profile::of(&spec);
    assert_eq!((read.micro_batch, read.cache_k.bytes, read.cache_v.bytes, read.rough), (1024, 34, 2, true));
}

#[test]
fn the_output_is_the_layer_behind_the_last() {
    let places = |gpus: &[f64], layers| place(4, &Placement { gpus: gpus.to_vec(), layers });
    assert_eq!(places(&[], 99), [None; 5]);
    assert_eq!(places(&[1.0], 0), [None; 5]);
    assert_eq!(places(&[1.0], 1), [None, None, None, None, Some(0)]);
    assert_eq!(places(&[1.0], 99), [Some(0); 5]);
    assert_eq!(places(&[3.0, 1.0], 4), [None, Some(0), Some(0), Some(0), Some(1)]);
    assert_eq!(places(&[0.0, 1.0], 5), [Some(1); 5]);
    assert_eq!(places(&[0.0, 0.0], 1)[4], Some(0));
}

#[test]
fn what_is_not_on_one_device_is_on_another() {
    for shape in ["llama-3.1-8b", "gemma-2-9b", "qwen3-30b-a3b", "glm-4.5-air"] {
        let model = architecture(shape);
        let all = u32::try_from(model.layers.len()).unwrap() + 1;
        for layers in [0, 1, 20, all] {
            for args in [&[][..], &["-nkvo"], &["--cpu-moe"], &["--n-cpu-moe", "5"]] {
                let placement = Placement { gpus: vec![2.0, 1.0], layers };
                let need = estimate(&model, &profile(8192, args), &placement);
                let (everywhere, host) = (
                    need.everywhere(),
                    estimate(&model, &profile(8192, args), &Placement { gpus: Vec::new(), layers: 0 }),
                );
                let copy = if model.tied && layers > 0 { model.input_bytes } else { 0 };
                assert_eq!(everywhere.weights, model.weights() + copy, "{shape} {layers} {args:?}");
                assert_eq!(everywhere.kv, host.host.kv);
                if args == ["-nkvo"] {
                    assert_eq!(need.host.kv, everywhere.kv);
                }
            }
        }
    }
    let model = architecture("qwen3-30b-a3b");
    let all_on_gpu = Placement { gpus: vec![1.0], layers: 99 };
    let whole = estimate(&model, &profile(4096, &[]), &all_on_gpu);
    assert_eq!(whole.host.weights, model.input_bytes);
    let experts = estimate(&model, &profile(4096, &["--cpu-moe"]), &all_on_gpu);
    assert!(experts.gpus[0].weights < whole.gpus[0].weights / 10, "nearly all of it is experts");
    assert!(experts.gpus[0].compute > whole.gpus[0].compute, "a copy of one of them is worked on");
}

#[test]
fn graphs_take_on_each_device_what_llama_server_says() {
    let model = architecture("llama-2-7b");
    let compute = |args: &[&str], gpus: &[f64], layers| {
        let need = estimate(&model, &profile(16_384, args), &Placement { gpus: gpus.to_vec(), layers });
        need.gpus.iter().chain([&need.host]).map(|space| space.compute / MIB).collect::<Vec<_>>()
    };
    // In MiB, as llama.cpp 0.7 said with the Vulkan backend: each device, and the host.
    for (args, gpus, layers, said) in [
        (&[][..], &[1.0][..], 99, &[112, 48][..]),
        (&["-ub", "1024"], &[1.0], 99, &[225, 96]),
        // What is on the host is copied: here two caches of 128 MiB.
        (&[], &[1.0], 10, &[312, 48]),
        (&[], &[1.0], 0, &[312, 48]),
        (&["-nkvo"], &[1.0], 99, &[304, 48]),
        (&["-ctk", "q8_0", "-ctv", "q8_0"], &[1.0], 10, &[200, 48]),
        (&[], &[3.0, 1.0], 20, &[312, 96, 48]),
        // Four copies of the inputs, as several devices have all layers.
        (&[], &[1.0, 1.0], 99, &[248, 208, 144]),
        (&[], &[1.0, 1.0, 1.0], 99, &[248, 208, 208, 144]),
    ] {
        let guess = compute(args, gpus, layers);
        assert_eq!(guess.len(), said.len());
        for (guess, said) in guess.iter().zip(said) {
            assert!(guess.abs_diff(*said) <= said / 10, "{args:?} {gpus:?} {layers}: {guess} and not {said}");
        }
    }
}
