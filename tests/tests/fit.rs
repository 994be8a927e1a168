//! What Corral says that a model takes, against what a real `llama-server` says: on the CPU, and on devices of its Vulkan
//! backend, which are this machine's processor. `make bench` has the long table.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use corral_tests::fit::{Compared, DeviceSetting, Setting, is_right};

fn off(setting: &str, compared: &[Compared]) -> Vec<String> {
    let wrong = compared.iter().flat_map(|compared| {
        let wrong = compared.kinds().into_iter().filter(|(_, guess, real, allowed)| !is_right(*guess, *real, *allowed));
        wrong.map(|(kind, guess, real, _)| format!("{setting}: {kind} of {} is {guess} and not {real}", compared.name))
    });
    wrong.collect()
}

fn on_the_cpu(settings: &[Setting], whole: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let compared = |setting: &Setting| Compared::of(folder.path(), *setting, whole);
    settings.iter().flat_map(|setting| off(&format!("{setting:?}"), &[compared(setting)])).collect()
}

fn on_devices(settings: &[DeviceSetting]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    // No more than it expects: to load, a GPU in software takes a minute for its shaders.
    let compared = |setting: &DeviceSetting| Compared::on_devices(folder.path(), *setting, false);
    settings.iter().flat_map(|setting| off(&format!("{setting:?}"), &compared(setting))).collect()
}

#[test]
fn estimates_are_what_llama_server_expects() {
    let settings: [Setting; 6] = [
        ("llama-3.1-8b", 32_768, "-np 4"),
        ("gemma-3-12b", 131_072, "-np 2"),
        ("qwen3-30b-a3b", 65_536, "-ctk q8_0 -ctv q8_0"),
        ("glm-4.7-flash", 200_000, ""),
        ("qwen3-next-80b-a3b", 32_768, "-ub 1024"),
        ("llama-2-7b", 4096, "-fa off"),
    ];
    assert_eq!(on_the_cpu(&settings, false), [""; 0]);
}

#[test]
fn estimates_are_what_a_load_takes() {
    let settings: [Setting; 4] = [
        ("small-llama", 262_144, ""),
        ("small-qwen3", 8192, "-np 4 -ctk q8_0 -ctv q8_0"),
        ("small-gemma3", 65_536, "-np 2"),
        ("small-mixtral", 16_384, "-fa off"),
    ];
    assert_eq!(on_the_cpu(&settings, true), [""; 0]);
}

#[test]
fn estimates_are_what_llama_server_expects_on_each_device() {
    let settings: [DeviceSetting; 9] = [
        (("llama-2-7b", 16_384, "-ngl 999"), &[1.0]),
        (("llama-2-7b", 16_384, "-ngl 10"), &[1.0]),
        (("llama-2-7b", 16_384, "-ngl 999 -ctk q8_0 -ctv q8_0 -nkvo"), &[1.0]),
        (("llama-2-7b", 16_384, "-ngl 999"), &[3.0, 1.0]),
        (("llama-2-7b", 16_384, "-ngl 20 -ctk q8_0 -ctv q8_0"), &[3.0, 1.0]),
        (("narrow-gemma3", 32_768, "-ngl 999 -np 2"), &[1.0, 1.0]),
        (("narrow-moe", 32_768, "-ngl 999 --cpu-moe"), &[1.0]),
        (("narrow-moe", 32_768, "-ngl 999 --n-cpu-moe 10"), &[1.0, 1.0]),
        (("narrow-moe", 32_768, "-ngl 12"), &[1.0]),
    ];
    assert_eq!(on_devices(&settings), [""; 0]);
}
