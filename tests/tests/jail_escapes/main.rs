//! Attempts to get out of `corral jail`, by an ordinary user's program in it. Each is carried out twice: in the jail,
//! where it has to fail for a plausible reason, and outside, where the same script has to succeed: an attempt that fails
//! everywhere would show nothing.
//!
//! `CORRAL_TEST_ATTEMPT` makes only those whose name has it in it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]

mod attempt;
mod daemon;
mod ends;
mod environment;
mod files;
mod later;
mod later_led;
mod modes;
mod network;
mod privileges;
mod processes;
mod sockets;
mod terminal;
mod world;

#[test]
fn there_are_many() {
    let all = [
        files::attempts(),
        later::attempts(),
        later_led::attempts(),
        network::attempts(),
        network::attempts_with_daemon(),
        privileges::attempts(),
        modes::attempts(),
        sockets::attempts(),
        environment::attempts(),
        processes::attempts(),
        terminal::attempts(),
    ]
    .concat()
    .len();
    assert!(all >= 60, "{all}");
}
