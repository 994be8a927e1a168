//! Verdicts as surfaces show them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use corral_core::fit::{FitVerdict, FitView};
use corral_core::{Code, Error};
use corral_testkit::fakes::fit_view;

/// What is reduced to a context of so many tokens, of 65,536, with so many layers on the CPU.
fn reduced(ctx: u32, layers_on_cpu: u32) -> FitView {
    FitView { ctx, layers_on_cpu, ..fit_view(FitVerdict::Reduced) }
}

#[test]
fn a_few_words_say_by_what_it_is_reduced() {
    let table = [
        (fit_view(FitVerdict::Fits), None),
        (reduced(8192, 0), Some("8k context")),
        (reduced(512, 0), Some("context of 512")),
        (reduced(65_536, 1), Some("1 layer on the CPU")),
        (reduced(65_536, 20), Some("20 layers on the CPU")),
        (reduced(8192, 20), Some("8k context, 20 layers on the CPU")),
        (fit_view(FitVerdict::No), Some("too big")),
    ];
    for (fit, words) in table {
        assert_eq!(fit.brief().as_deref(), words);
    }
    assert_eq!(serde_json::to_value(reduced(1, 0)).unwrap()["verdict"], "reduced");
}

#[test]
fn people_hear_of_what_llama_server_does_not_do_by_itself() {
    assert_eq!(reduced(65_536, 20).warning("a"), None);
    for fit in [reduced(8192, 0), reduced(8192, 20), fit_view(FitVerdict::No)] {
        assert_eq!(fit.warning("a").as_deref(), Some("a may not fit: there is too little memory"));
    }
}

#[test]
fn what_was_reduced_and_ran_out_is_explained_by_why_it_is_reduced() {
    let reason = Some("it fits with 8192 and not with 131072".to_owned());
    let fit = FitView { vram_bytes: 9, vram_free_bytes: 8, reason, ..reduced(8192, 0) };
    let error = fit.explain(&Error::new(Code::OutOfMemory, "cudaMalloc failed")).to_string();
    assert!(error.contains("not with 131072") && !error.contains("something took memory"), "{error}");
}

#[test]
fn what_was_killed_ran_out_where_the_host_has_no_room_for_it_as_it_is_configured() {
    let killed = Error::new(Code::ServerKilled, "llama-server was ended from outside (SIGKILL)");
    let host = |host_bytes, fit| FitView { host_bytes, host_free_bytes: 5_000_000_000, ..fit };
    for (fit, code) in [
        // Its configured context did not fit; the smaller one would have.
        (host(9_000_000_000, reduced(8192, 0)), Code::OutOfMemory),
        // Nor did it with layers on the host, however many.
        (host(1_000_000_000, reduced(8192, 20)), Code::OutOfMemory),
        (host(1_000_000_000, reduced(8192, 0)), Code::ServerKilled),
        (host(1_000_000_000, reduced(65_536, 20)), Code::ServerKilled),
    ] {
        assert_eq!(fit.explain(&killed).code(), code, "{fit:?}");
    }
}
