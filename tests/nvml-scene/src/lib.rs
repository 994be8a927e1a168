//! A fake of NVIDIA's management library, at its own boundary: the C functions that Corral calls. It plays a scene, a
//! JSON file that lies beside it and may change while it plays, and writes down each call in a file beside it.
//!
//! A scene: `{"driver", "answers": {FUNCTION: CODE}, "hold": FUNCTION, "devices": [{"uuid", "name", "pci", "util",
//! "mem_util", "total", "reserved", "free", "used", "temperature", "power_mw", "limit_mw", "energy_mj", "core_mhz",
//! "memory_mhz", "generation", "max_generation", "width", "max_width", "rx_kb", "tx_kb", "throttle", "fan", "answers",
//! "compute": [[PID, BYTES]], "graphics", "mps", "parts": [DEVICE]}]}`. What a device does not name is answered with
//! "not supported"; bytes of null are "not available". An answer to `*` is one to each function of the device. A call
//! of the held function does not come back before [`Stage::let_go`].

#![allow(unsafe_code, reason = "these are C functions")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code: a panic is how it fails")]
#![allow(non_snake_case, reason = "the names are NVIDIA's")]

mod functions;
mod scene;
mod stage;

pub use stage::Stage;
