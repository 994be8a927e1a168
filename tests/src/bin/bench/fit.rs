//! How near the estimates of memory are to what `llama-server` takes.

use corral_tests::fit::{COUNTED, Compared, DeviceSetting, Setting, error};

use crate::figures::Bounds;

/// Shapes of known models, of which only the header is read, and small ones, which are loaded.
const EXPECTED: [Setting; 30] = [
    ("llama-2-7b", 4096, ""),
    ("llama-2-7b", 16_384, "-ctk q4_0 -ctv q4_0"),
    ("llama-3.1-8b", 4096, ""),
    ("llama-3.1-8b", 131_072, "-ctk q8_0 -ctv q8_0"),
    ("llama-3.1-8b", 32_768, "-np 4"),
    ("llama-3.1-8b", 32_768, "-np 4 -kvu"),
    ("llama-3.1-8b", 16_384, "-ub 2048"),
    ("llama-3.1-8b", 16_384, "-fa off"),
    ("qwen2.5-7b", 32_768, ""),
    ("qwen3-8b", 40_960, "-np 2"),
    ("phi-3.5-mini", 16_384, ""),
    ("phi-3.5-mini", 131_072, "-ctk q8_0 -ctv q8_0"),
    ("gemma-2-9b", 8192, ""),
    ("gemma-2-9b", 32_768, "-np 4"),
    ("gemma-3-12b", 131_072, ""),
    ("gemma-3-12b", 131_072, "-np 4"),
    ("gemma-3-12b", 32_768, "-np 4 -kvu"),
    ("gemma-3-12b", 16_384, "--swa-full -fa off"),
    ("mixtral-8x7b", 32_768, ""),
    ("qwen3-30b-a3b", 65_536, ""),
    ("qwen3-30b-a3b", 262_144, "-ctk q8_0 -ctv q8_0"),
    ("gpt-oss-20b", 131_072, ""),
    ("gpt-oss-20b", 16_384, "-np 4"),
    ("glm-4.7-flash", 65_536, ""),
    ("glm-4.7-flash", 200_000, "-ctk q8_0 -ctv q8_0 -ub 1024"),
    ("glm-4.5-air", 65_536, ""),
    ("qwen3-next-80b-a3b", 262_144, ""),
    ("qwen3-next-80b-a3b", 65_536, "-np 4"),
    ("mamba-2.8b", 4096, ""),
    ("mamba-2.8b", 65_536, "-np 8"),
];

const LOADED: [Setting; 8] = [
    ("small-llama", 4096, ""),
    ("small-llama", 262_144, ""),
    ("small-llama", 262_144, "-np 4 -ctk q8_0 -ctv q8_0"),
    ("small-qwen3", 65_536, "-np 4"),
    ("small-qwen3", 8192, "-fa off"),
    ("small-gemma3", 262_144, "-np 2"),
    ("small-mixtral", 131_072, ""),
    ("small-mixtral", 16_384, "-fa off -ub 1024"),
];

/// Layers on devices of the Vulkan backend, which are this machine's processor.
const ON_DEVICES: [DeviceSetting; 20] = [
    (("llama-2-7b", 4096, "-ngl 999"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999 -ub 1024"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999 -np 4"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999 -ctk q8_0 -ctv q8_0"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 0"), &[1.0]),
    (("llama-2-7b", 4096, "-ngl 10"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 10"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999 -nkvo"), &[1.0]),
    (("llama-2-7b", 16_384, "-ngl 999"), &[3.0, 1.0]),
    (("llama-2-7b", 16_384, "-ngl 999"), &[1.0, 1.0, 1.0]),
    (("llama-2-7b", 16_384, "-ngl 20 -ctk q8_0 -ctv q8_0"), &[3.0, 1.0]),
    (("phi-3.5-mini", 16_384, "-ngl 999"), &[1.0]),
    (("phi-3.5-mini", 16_384, "-ngl 16"), &[1.0]),
    (("narrow-gemma3", 32_768, "-ngl 999 -np 2"), &[1.0, 1.0]),
    (("narrow-gemma3", 32_768, "-ngl 20"), &[1.0]),
    (("narrow-moe", 32_768, "-ngl 999"), &[1.0]),
    (("narrow-moe", 32_768, "-ngl 12"), &[1.0]),
    (("narrow-moe", 32_768, "-ngl 999 --cpu-moe"), &[1.0]),
    (("narrow-moe", 32_768, "-ngl 999 --n-cpu-moe 10"), &[1.0, 1.0]),
];

/// Small ones that are loaded there, as quick as a GPU in software is.
const LOADED_ON_DEVICES: [DeviceSetting; 2] = [
    (("small-llama", 65_536, "-ngl 3 --no-warmup"), &[1.0]),
    (("small-qwen3", 65_536, "-ngl 999 -np 2 --no-warmup"), &[1.0, 1.0]),
];

/// One round: nothing of it is a matter of time.
pub(crate) fn costs(bounds: &mut Bounds) {
    let folder = tempfile::Builder::new().prefix("corral-bench-").tempdir().expect("a folder");
    println!("\nmemory in MiB: estimate / llama-server's own figure (error)");
    println!("  where the error is more than its bound, and yet no more than counting in whole MiB explains: (=)");
    println!("  {:<20} {:>7} {:<62} {:^26} {:^26} {:^26}", "shape", "ctx", "arguments", "weights", "KV", "compute");
    for (settings, whole) in [(&EXPECTED[..], false), (&LOADED[..], true)] {
        println!("  on the CPU, {}:", if whole { "loaded" } else { "expected before the load" });
        for setting in settings {
            row(&Compared::of(folder.path(), *setting, whole), *setting, "", bounds);
        }
    }
    for (settings, whole) in [(&ON_DEVICES[..], false), (&LOADED_ON_DEVICES[..], true)] {
        println!("  on devices, {}:", if whole { "loaded" } else { "expected before the load" });
        for (setting, split) in settings {
            for compared in Compared::on_devices(folder.path(), (*setting, split), whole) {
                row(&compared, *setting, &format!(" {split:?} {}", compared.name), bounds);
            }
        }
    }
}

fn row(compared: &Compared, (shape, ctx, args): Setting, place: &str, bounds: &mut Bounds) {
    let mut line = format!("  {shape:<20} {ctx:>7} {:<62}", format!("{args}{place}"));
    for (kind, estimated, real, allowed) in compared.kinds() {
        let off = error(estimated, real);
        let counted = off > allowed && estimated.abs_diff(real) <= COUNTED;
        let shown = if counted { "    =".to_owned() } else { format!("{:>4.1}%", off * 100.0) };
        line = format!("{line} {:>9} /{:>7} ({shown})", estimated >> 20, real >> 20);
        if !counted {
            let what = format!("the error of {shape}'s {kind} with {ctx} {args}{place}");
            bounds.at_most(&what, off * 100.0, allowed * 100.0, " %");
        }
    }
    println!("{line}");
}
