//! What comes of it on a machine, and what a load teaches.

use super::*;

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
