//! Does a model fit: the arithmetic, on models of known shapes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::fs::File;

use corral_testkit::gguf::{ShapedModel, shapes};
use corral_testkit::launch_spec;
use proptest::prelude::*;

use corral_core::fit::*;
use corral_core::gguf::{Model, Tensor, TensorType, Value, read};
use corral_core::launch::{CpuMoe, Gpu, GpuLayers, LaunchSpec};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn architecture(shape: &str) -> Architecture {
    let file = tempfile::NamedTempFile::new().unwrap();
    ShapedModel::named(shape).unwrap().write(file.path()).unwrap();
    let header = read(File::open(file.path()).unwrap()).unwrap();
    Architecture::of(&Model::join(vec![header]).unwrap()).unwrap()
}

fn profile(ctx: u32, args: &[&str]) -> Profile {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Profile::of(&LaunchSpec { ctx, args, ..launch_spec("m") })
}

fn on_host(shape: &str, ctx: u32, args: &[&str]) -> Space {
    estimate(&architecture(shape), &profile(ctx, args), &Placement { gpus: Vec::new(), layers: 0 }).host
}

/// A model of one key each, and no tensors.
fn model_of(architecture: &str, values: &[(&str, Value)]) -> Model {
    let own = |key: &str| format!("{architecture}.{key}");
    let values = values.iter().map(|(key, value)| (own(key), value.clone()));
    Model { architecture: architecture.to_owned(), values: values.collect(), tensors: Vec::new(), size_bytes: 0 }
}

fn minimal(architecture: &str, layers: u64, more: &[(&str, Value)]) -> Model {
    let mut values = vec![
        ("embedding_length", Value::Number(64)),
        ("block_count", Value::Number(layers)),
        ("attention.head_count", Value::Number(2)),
    ];
    values.extend_from_slice(more);
    model_of(architecture, &values)
}

/// The layers that see everything, of so many.
fn full(model: &Model) -> Vec<usize> {
    let layers = Architecture::of(model).unwrap().layers;
    layers.iter().enumerate().filter(|(_, layer)| layer.window.is_none()).map(|(index, _)| index).collect()
}

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

/// A machine with GPUs of so many bytes, all free, and a large host.
fn machine(gpus: &[u64]) -> Machine {
    let memory = |name: String, bytes: u64| Memory { name, total: bytes, free: bytes, ..Memory::default() };
    let gpus = gpus.iter().enumerate().map(|(index, bytes)| memory(format!("GPU {index}"), *bytes)).collect();
    Machine { gpus, host: memory("the host".to_owned(), 128 * GIB) }
}

fn judged(machine: &Machine, ctx: u32, args: &[&str]) -> Fit {
    judge(&architecture("llama-3.1-8b"), &profile(ctx, args), machine, &Correction::default())
}

#[test]
fn a_model_fits_with_what_the_outgoing_one_gives_back() {
    let mut machine = machine(&[24 * GIB]);
    let fit = judged(&machine, 32_768, &[]);
    assert_eq!((fit.verdict, fit.gpu_layers, fit.ctx), (Verdict::Fits, 33, 32_768));
    assert!(fit.reason.contains("GPU memory") && fit.in_the_way.is_empty(), "{}", fit.reason);
    machine.gpus[0].free = 2 * GIB;
    assert_ne!(judged(&machine, 32_768, &[]).verdict, Verdict::Fits);
    machine.gpus[0].given_back = 20 * GIB;
    assert_eq!(judged(&machine, 32_768, &[]).verdict, Verdict::Fits);
    // More than there is cannot come back.
    machine.gpus[0].total = 6 * GIB;
    assert_ne!(judged(&machine, 32_768, &[]).verdict, Verdict::Fits);
}

#[test]
fn layers_go_to_the_cpu_where_llama_server_may_choose() {
    let mut machine = machine(&[8 * GIB]);
    machine.gpus[0].free = 7 * GIB;
    machine.gpus[0].holders = vec![
        Holder { name: "gnome-shell".to_owned(), bytes: 300_000_000 },
        Holder { name: "blender".to_owned(), bytes: 700_000_000 },
    ];
    let fit = judged(&machine, 32_768, &[]);
    let Verdict::Reduced(Reduction::LayersOnCpu(layers)) = fit.verdict else { panic!("{fit:?}") };
    assert_eq!(fit.gpu_layers + layers, 33);
    assert!(fit.need.vram() + MARGIN <= 7 * GIB, "{fit:?}");
    assert_eq!(fit.in_the_way[0].name, "blender");
    assert!(fit.reason.contains("of 33 layers") && fit.reason.contains("blender has 700 MB"), "{}", fit.reason);
    // One layer more would not.
    let more = Placement { gpus: vec![1.0], layers: fit.gpu_layers + 1 };
    let more = estimate(&architecture("llama-3.1-8b"), &profile(32_768, &[]), &more);
    assert!(more.vram() + MARGIN > 7 * GIB);
}

#[test]
fn a_smaller_context_is_found_where_nothing_may_move() {
    let machine = machine(&[8 * GIB]);
    let fit = judged(&machine, 131_072, &["-ngl", "all"]);
    let Verdict::Reduced(Reduction::Context(ctx)) = fit.verdict else { panic!("{fit:?}") };
    assert_eq!((fit.ctx, fit.gpu_layers, ctx % 1024), (ctx, 33, 0));
    assert!(fit.need.vram() <= 8 * GIB);
    assert!(fit.reason.contains("and not with 131072"), "{}", fit.reason);
    assert_eq!(judged(&machine, ctx, &["-ngl", "all"]).verdict, Verdict::Fits);
    assert_ne!(judged(&machine, ctx + 1024, &["-ngl", "all"]).verdict, Verdict::Fits);
}

#[test]
fn what_is_reduced_says_what_it_needs_and_what_it_takes() {
    let view = |machine: &Machine, ctx, args: &[&str]| FitView::from(judged(machine, ctx, args));
    let room = machine(&[96 * GIB]);
    let whole = view(&room, 131_072, &[]);
    assert_eq!((whole.verdict, whole.vram_reduced_bytes, whole.host_reduced_bytes), (FitVerdict::Fits, None, None));
    assert_eq!((whole.ctx, whole.ctx_configured), (131_072, 131_072));
    let needed = |fit: &FitView| (fit.vram_bytes, fit.host_bytes, fit.ctx_configured);

    // By layers: what is missing on the GPU is on the host.
    let fit = view(&machine(&[12 * GIB]), 131_072, &[]);
    assert_eq!((fit.verdict, fit.ctx, needed(&fit)), (FitVerdict::Reduced, 131_072, needed(&whole)), "{fit:?}");
    assert!(fit.layers_on_cpu > 0 && fit.vram_reduced_bytes.unwrap() < fit.vram_free_bytes, "{fit:?}");
    assert!(fit.vram_bytes > fit.vram_free_bytes && fit.host_reduced_bytes.unwrap() > fit.host_bytes, "{fit:?}");

    // By the context.
    let all = ["-ngl", "all"];
    let fit = view(&machine(&[12 * GIB]), 131_072, &all);
    assert_eq!((fit.verdict, fit.layers_on_cpu), (FitVerdict::Reduced, 0), "{fit:?}");
    assert_eq!(needed(&fit), needed(&view(&room, 131_072, &all)));
    assert!(fit.ctx < fit.ctx_configured && fit.vram_reduced_bytes.unwrap() <= fit.vram_free_bytes, "{fit:?}");

    // What does not fit takes nothing.
    let fit = view(&machine(&[GIB]), 8192, &all);
    assert_eq!((fit.verdict, fit.vram_reduced_bytes, fit.layers_on_cpu), (FitVerdict::No, None, 0), "{fit:?}");
}

#[test]
fn a_smaller_context_can_go_with_layers_on_the_cpu() {
    let mut machine = machine(&[5 * GIB]);
    machine.host.total = 8 * GIB;
    machine.host.free = 8 * GIB;
    let fit = judged(&machine, 131_072, &[]);
    let Verdict::Reduced(Reduction::Context(ctx)) = fit.verdict else { panic!("{fit:?}") };
    assert!(ctx < 131_072 && fit.layers_on_cpu > 0, "{fit:?}");
    assert_eq!(fit.gpu_layers + fit.layers_on_cpu, 33, "{fit:?}");
    let both = format!("with a context of {ctx} and {} of 33 layers on the CPU, which is slow,", fit.layers_on_cpu);
    assert!(fit.reason.contains(&both) && fit.reason.contains("and not with 131072"), "{}", fit.reason);
    let layers = fit.layers_on_cpu;
    let view = FitView::from(fit);
    assert_eq!(view.brief(), Some(format!("{}k context, {layers} layers on the CPU", ctx / 1024)));
    assert!(view.warning("m").is_some(), "the context has to be configured");
}

#[test]
fn what_is_hopeless_is_said_with_who_is_in_the_way() {
    let mut machine = machine(&[4 * GIB]);
    machine.gpus[0].holders = vec![Holder { name: "game".to_owned(), bytes: GIB }];
    let fit = judged(&machine, 8192, &["-ngl", "99"]);
    assert_eq!((fit.verdict, fit.verdict.word(), fit.ctx), (Verdict::No, "no", 8192));
    assert_eq!(fit.in_the_way[0].name, "game");
    assert!(fit.reason.contains("GPU 0 has 4.3 GB to give"), "{}", fit.reason);
    // On the host alone nobody asks the GPU.
    machine.gpus.clear();
    assert_eq!(judged(&machine, 8192, &["-ngl", "99"]).verdict, Verdict::Fits);
    machine.host.free = GIB;
    assert_eq!(judged(&machine, 8192, &[]).verdict, Verdict::No);
    machine.host.free = 7 * GIB;
    assert!(matches!(judged(&machine, 131_072, &[]).verdict, Verdict::Reduced(Reduction::Context(4096..))));
}

#[test]
fn nothing_that_is_only_guessed_is_hopeless() {
    let nothing = machine(&[GIB / 64]);
    let all = ["-ngl", "99"];
    assert!(judged(&nothing, 8192, &all).hopeless);
    assert!(!judged(&nothing, 8192, &[]).hopeless, "llama-server does without that GPU");
    let mut unsure = nothing.clone();
    unsure.gpus[0].unsure = true;
    assert!(!judged(&unsure, 8192, &all).hopeless, "more may be had than is told");
    let env = [("GGML_CUDA_ENABLE_UNIFIED_MEMORY".to_owned(), "1".to_owned())].into_iter().collect();
    let unified = Profile::of(&LaunchSpec { gpu_layers: Some(GpuLayers::All), env, ..launch_spec("m") });
    let fit = judge(&architecture("llama-3.1-8b"), &unified, &nothing, &Correction::default());
    assert_eq!((fit.verdict, fit.hopeless), (Verdict::No, false), "{}", fit.reason);
    // A byte is within what the driver's share is guessed by, and half of it is not.
    let needed = judged(&machine(&[24 * GIB]), 4096, &all).need.vram();
    let short = |by: u64| judged(&machine(&[needed - by]), 4096, &all);
    assert_eq!((short(1).verdict, short(1).hopeless), (Verdict::No, false));
    assert!(short(needed / 2).hopeless);
}

/// Graphics of a processor: so much of its memory is the host's, of which there is so much.
fn shared(own: u64, shared: u64, host: u64) -> Machine {
    let mut machine = machine(&[own + shared]);
    (machine.gpus[0].shared, machine.gpus[0].unsure) = (shared, true);
    machine.gpus[0].free = machine.gpus[0].total.min(own + host);
    (machine.host.total, machine.host.free) = (host, host);
    machine
}

#[test]
fn what_a_processors_graphics_use_of_the_hosts_memory_is_not_there_twice() {
    // The weights are of 4.4 GiB, nearly all of them on the GPU.
    let all = judged(&machine(&[24 * GIB]), 4096, &[]);
    let (vram, host) = (all.need.vram(), all.need.host.total());
    let fits = judged(&shared(0, 16 * GIB, vram + host + 2 * GIB), 4096, &[]);
    assert_eq!((fits.verdict, fits.gpu_layers), (Verdict::Fits, all.gpu_layers), "{}", fits.reason);
    // Each part has half of it, which would do if they were two.
    let half = judged(&shared(0, vram / 2 + GIB, vram / 2 + GIB), 4096, &["--no-mmap"]);
    assert_eq!((half.verdict, half.hopeless), (Verdict::No, false), "{}", half.reason);
    assert!(half.reason.contains("the host has"), "{}", half.reason);
    // What is set aside for the graphics is theirs alone.
    let aside = judged(&shared(vram / 2 + GIB, vram, vram / 2 + GIB), 4096, &["--no-mmap"]);
    assert_eq!(aside.verdict, Verdict::Fits, "{}", aside.reason);
    // A third of it on the host is what both pools can give.
    let told = judged(&shared(vram / 2, 2 * GIB, vram), 4096, &["--no-mmap"]);
    assert!(matches!(told.verdict, Verdict::Reduced(Reduction::LayersOnCpu(_))), "{}", told.reason);
    let of_host = told.need.vram().saturating_sub(vram / 2) + told.need.host.total();
    assert!(of_host <= vram && told.need.vram() > vram / 2, "{told:?}");
}

#[test]
fn a_processors_graphics_are_left_alone_beside_a_gpu() {
    let mut both = machine(&[8 * GIB, 24 * GIB]);
    both.gpus[0].shared = 8 * GIB;
    let fit = judged(&both, 4096, &[]);
    assert_eq!((fit.verdict, fit.need.gpus.len(), fit.vram_free), (Verdict::Fits, 1, 24 * GIB));
    let mut named = profile(4096, &[]);
    named.gpu = Gpu::Devices(vec![0]);
    let fit = judge(&architecture("llama-3.1-8b"), &named, &both, &Correction::default());
    assert_eq!(fit.vram_free, 8 * GIB, "unless it is named");
    both.gpus.truncate(1);
    assert_eq!(judged(&both, 4096, &[]).need.gpus.len(), 1, "or the only one");
}

#[test]
fn only_the_gpus_that_are_named_are_used() {
    let machine = machine(&[GIB, 24 * GIB]);
    let model = architecture("llama-3.1-8b");
    let mut wanted = profile(8192, &[]);
    wanted.gpu = Gpu::Devices(vec![1]);
    let fit = judge(&model, &wanted, &machine, &Correction::default());
    assert_eq!((fit.verdict, fit.need.gpus.len()), (Verdict::Fits, 1));
    wanted.gpu = Gpu::Devices(vec![0, 7]);
    wanted.gpu_layers = GpuLayers::All;
    assert_eq!(judge(&model, &wanted, &machine, &Correction::default()).verdict, Verdict::No);
    wanted.gpu = Gpu::None;
    assert_eq!(judge(&model, &wanted, &machine, &Correction::default()).need.vram(), 0);
    wanted.gpu = Gpu::Auto;
    wanted.tensor_split = vec![0.0, 1.0];
    assert_eq!(judge(&model, &wanted, &machine, &Correction::default()).verdict, Verdict::Fits);
}

#[test]
fn a_load_corrects_what_comes_after() {
    let model = architecture("llama-3.1-8b");
    let placement = Placement { gpus: vec![1.0], layers: 99 };
    let estimated = estimate(&model, &profile(8192, &[]), &placement);
    let mut taken = estimated.clone();
    taken.gpus[0].compute = estimated.gpus[0].compute * 2;
    taken.gpus[0].overhead = 300 * MIB;
    let correction = Correction::learn(&estimated, &taken);
    assert!(correction.compute > 1.5 && (correction.kv - 1.0).abs() < 1e-9, "{correction:?}");
    let after = correction.apply(&estimated);
    assert!(after.everywhere().compute.abs_diff(taken.everywhere().compute) < MIB);
    assert_eq!(after.gpus[0].overhead, 300 * MIB);
    // Kept and brought back, it is the same; what is missing changes nothing.
    let kept = serde_json::to_string(&correction).unwrap();
    let brought: Correction = serde_json::from_str(&kept).unwrap();
    assert!((brought.compute - correction.compute).abs() < 1e-9 && brought.overhead == correction.overhead);
    assert_eq!(serde_json::from_str::<Correction>("{}").unwrap(), Correction::default());
    // Nonsense teaches nothing, and is believed by nobody.
    assert_eq!(Correction::learn(&estimated, &Need::default()), Correction::default());
    let absurd = Correction { kv: 1e9, weights: f64::NAN, ..Correction::default() };
    assert_eq!(absurd.apply(&estimated), estimated);
}

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
