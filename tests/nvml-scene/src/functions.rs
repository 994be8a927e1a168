//! The functions.

use std::ffi::{CStr, c_char, c_uint, c_ulonglong};
use std::sync::Arc;

use nvml_wrapper_sys::bindings::{
    nvmlClockType_t, nvmlDevice_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlPcieUtilCounter_t, nvmlProcessInfo_t,
    nvmlReturn_t, nvmlTemperatureSensors_t, nvmlUtilization_t,
};
use serde_json::Value;

use crate::scene::called;

const SUCCESS: nvmlReturn_t = 0;
const INVALID_ARGUMENT: nvmlReturn_t = 2;
const NOT_SUPPORTED: nvmlReturn_t = 3;
const NOT_FOUND: nvmlReturn_t = 6;
const INSUFFICIENT_SIZE: nvmlReturn_t = 7;

/// What a value has that is not there.
const NOT_AVAILABLE: u64 = u64::MAX;

/// Handles: the number of a device and of its part, both from 1, and no part as 0.
fn handle(device: usize, part: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut((device << 8) | part)
}

/// The device or part behind a handle, once the call is written down; or what the scene answers in its place.
fn device(function: &str, handle: nvmlDevice_t) -> Result<(Arc<Value>, Value), nvmlReturn_t> {
    let scene = called(function);
    let (device, part) = (handle.addr() >> 8, handle.addr() & 0xff);
    let device = &scene["devices"][device.checked_sub(1).ok_or(INVALID_ARGUMENT)?];
    answer(&scene, device, function)?;
    let device = if part == 0 { device } else { &device["parts"][part - 1] };
    if device.is_null() { Err(INVALID_ARGUMENT) } else { Ok((scene.clone(), device.clone())) }
}

/// What the scene answers in place of a value.
fn answer(scene: &Value, device: &Value, function: &str) -> Result<(), nvmlReturn_t> {
    for code in [&scene["answers"][function], &device["answers"][function], &device["answers"]["*"]] {
        if let Some(code) = code.as_u64() {
            return Err(u32::try_from(code).unwrap());
        }
    }
    Ok(())
}

fn number(device: &Value, name: &str) -> Result<u64, nvmlReturn_t> {
    device[name].as_u64().ok_or(NOT_SUPPORTED)
}

fn small(device: &Value, name: &str) -> Result<c_uint, nvmlReturn_t> {
    Ok(u32::try_from(number(device, name)?).unwrap())
}

/// Writes what was found; as a code.
///
/// # Safety
/// `out` can be written.
unsafe fn give<T>(out: *mut T, value: Result<T, nvmlReturn_t>) -> nvmlReturn_t {
    match value {
        // SAFETY: as above.
        Ok(value) => unsafe { out.write(value) },
        Err(code) => return code,
    }
    SUCCESS
}

/// Writes a text with its end.
///
/// # Safety
/// There is room for `length` bytes.
unsafe fn give_text(out: *mut c_char, length: c_uint, text: Result<String, nvmlReturn_t>) -> nvmlReturn_t {
    let text = match text {
        Ok(text) => text,
        Err(code) => return code,
    };
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: it fits.
    unsafe {
        out.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
        out.add(text.len()).write(0);
    }
    SUCCESS
}

fn text(device: &Value, name: &str) -> Result<String, nvmlReturn_t> {
    device[name].as_str().map(str::to_owned).ok_or(NOT_SUPPORTED)
}

/// Functions that write one number of a device.
macro_rules! numbers {
    ($($function:ident: $type:ty = $field:literal;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(device_: nvmlDevice_t, out: *mut $type) -> nvmlReturn_t {
            let value = device(stringify!($function), device_).and_then(|(_, device)| number(&device, $field));
            // SAFETY: the caller's.
            unsafe { give(out, value.map(|value| <$type>::try_from(value).unwrap())) }
        }
    )*};
}

numbers! {
    nvmlDeviceGetPowerUsage: c_uint = "power_mw";
    nvmlDeviceGetEnforcedPowerLimit: c_uint = "limit_mw";
    nvmlDeviceGetTotalEnergyConsumption: c_ulonglong = "energy_mj";
    nvmlDeviceGetCurrPcieLinkGeneration: c_uint = "generation";
    nvmlDeviceGetMaxPcieLinkGeneration: c_uint = "max_generation";
    nvmlDeviceGetCurrPcieLinkWidth: c_uint = "width";
    nvmlDeviceGetMaxPcieLinkWidth: c_uint = "max_width";
    nvmlDeviceGetCurrentClocksThrottleReasons: c_ulonglong = "throttle";
}

/// Functions that take and give nothing else.
macro_rules! plain {
    ($($function:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function() -> nvmlReturn_t {
            answer(&called(stringify!($function)), &Value::Null, stringify!($function)).err().unwrap_or(SUCCESS)
        }
    )*};
}

plain! {
    nvmlInit_v2;
    nvmlShutdown;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let driver = text(&called("nvmlSystemGetDriverVersion"), "driver");
    // SAFETY: the caller's.
    unsafe { give_text(out, length, driver) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(out: *mut c_uint) -> nvmlReturn_t {
    let scene = called("nvmlDeviceGetCount_v2");
    let count = scene["devices"].as_array().map_or(0, Vec::len);
    let count = answer(&scene, &Value::Null, "nvmlDeviceGetCount_v2").map(|()| u32::try_from(count).unwrap());
    // SAFETY: the caller's.
    unsafe { give(out, count) }
}

/// The handle of a device that a scene has, or why there is none.
fn opened(scene: &Value, at: Option<usize>, function: &str) -> Result<nvmlDevice_t, nvmlReturn_t> {
    let at = at.ok_or(NOT_FOUND)?;
    let device = &scene["devices"][at];
    if device.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // Only a device that is named: `*` speaks of what is asked of a handle.
    match device["answers"][function].as_u64().or(scene["answers"][function].as_u64()) {
        Some(code) => Err(u32::try_from(code).unwrap()),
        None => Ok(handle(at + 1, 0)),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut nvmlDevice_t) -> nvmlReturn_t {
    let function = "nvmlDeviceGetHandleByIndex_v2";
    // SAFETY: the caller's.
    unsafe { give(out, opened(&called(function), Some(index as usize), function)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, out: *mut nvmlDevice_t) -> nvmlReturn_t {
    let function = "nvmlDeviceGetHandleByPciBusId_v2";
    let scene = called(function);
    // SAFETY: the caller's.
    let pci = unsafe { CStr::from_ptr(pci) }.to_str().unwrap().to_lowercase();
    let devices = scene["devices"].as_array().map_or(&[][..], Vec::as_slice);
    let at = devices.iter().position(|device| device["pci"].as_str().unwrap().to_lowercase().ends_with(&pci));
    // SAFETY: the caller's.
    unsafe { give(out, opened(&scene, at, function)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device_: nvmlDevice_t, out: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let name = device("nvmlDeviceGetName", device_).and_then(|(_, device)| text(&device, "name"));
    // SAFETY: the caller's.
    unsafe { give_text(out, length, name) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device_: nvmlDevice_t, out: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let uuid = device("nvmlDeviceGetUUID", device_).and_then(|(_, device)| text(&device, "uuid"));
    // SAFETY: the caller's.
    unsafe { give_text(out, length, uuid) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device_: nvmlDevice_t, out: *mut nvmlPciInfo_t) -> nvmlReturn_t {
    let pci = device("nvmlDeviceGetPciInfo_v3", device_).and_then(|(_, device)| text(&device, "pci"));
    let info = pci.map(|pci| {
        // SAFETY: all zeros are a valid value of numbers and characters.
        let mut info: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        for (to, byte) in info.busId.iter_mut().zip(pci.bytes()) {
            *to = byte.cast_signed();
        }
        info
    });
    // SAFETY: the caller's.
    unsafe { give(out, info) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device_: nvmlDevice_t, out: *mut nvmlUtilization_t) -> nvmlReturn_t {
    let rates = device("nvmlDeviceGetUtilizationRates", device_).and_then(|(_, device)| {
        Ok(nvmlUtilization_t { gpu: small(&device, "util")?, memory: small(&device, "mem_util")? })
    });
    // SAFETY: the caller's.
    unsafe { give(out, rates) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device_: nvmlDevice_t, out: *mut nvmlMemory_v2_t) -> nvmlReturn_t {
    // SAFETY: the caller's.
    let version = unsafe { (*out).version };
    let memory = device("nvmlDeviceGetMemoryInfo_v2", device_).and_then(|(_, device)| {
        let [total, reserved, free, used] = ["total", "reserved", "free", "used"].map(|name| number(&device, name));
        Ok(nvmlMemory_v2_t { version, total: total?, reserved: reserved?, free: free?, used: used? })
    });
    // SAFETY: the caller's.
    unsafe { give(out, memory) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device_: nvmlDevice_t,
    _: nvmlTemperatureSensors_t,
    out: *mut c_uint,
) -> nvmlReturn_t {
    let value = device("nvmlDeviceGetTemperature", device_).and_then(|(_, device)| small(&device, "temperature"));
    // SAFETY: the caller's.
    unsafe { give(out, value) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device_: nvmlDevice_t,
    clock: nvmlClockType_t,
    out: *mut c_uint,
) -> nvmlReturn_t {
    let field = if clock == 2 { "memory_mhz" } else { "core_mhz" };
    let value = device("nvmlDeviceGetClockInfo", device_).and_then(|(_, device)| small(&device, field));
    // SAFETY: the caller's.
    unsafe { give(out, value) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPcieThroughput(
    device_: nvmlDevice_t,
    counter: nvmlPcieUtilCounter_t,
    out: *mut c_uint,
) -> nvmlReturn_t {
    let field = if counter == 0 { "tx_kb" } else { "rx_kb" };
    let value = device("nvmlDeviceGetPcieThroughput", device_).and_then(|(_, device)| small(&device, field));
    // SAFETY: the caller's.
    unsafe { give(out, value) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFanSpeed_v2(device_: nvmlDevice_t, _: c_uint, out: *mut c_uint) -> nvmlReturn_t {
    let value = device("nvmlDeviceGetFanSpeed_v2", device_).and_then(|(_, device)| small(&device, "fan"));
    // SAFETY: the caller's.
    unsafe { give(out, value) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device_: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    let mode = device("nvmlDeviceGetMigMode", device_)
        .and_then(|(_, device)| device["parts"].as_array().map(|_| 1).ok_or(NOT_SUPPORTED));
    // SAFETY: the caller's.
    unsafe {
        give(pending, mode);
        give(current, mode)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device_: nvmlDevice_t, out: *mut c_uint) -> nvmlReturn_t {
    // As many as a card can have, most of which are not there.
    let count = device("nvmlDeviceGetMaxMigDeviceCount", device_).map(|_| 7);
    // SAFETY: the caller's.
    unsafe { give(out, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device_: nvmlDevice_t,
    index: c_uint,
    out: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let found = device("nvmlDeviceGetMigDeviceHandleByIndex", device_).and_then(|(_, device)| {
        let there = !device["parts"][index as usize].is_null();
        there.then(|| handle(device_.addr() >> 8, index as usize + 1)).ok_or(NOT_FOUND)
    });
    // SAFETY: the caller's.
    unsafe { give(out, found) }
}

/// Functions that list processes.
macro_rules! lists {
    ($($function:ident = $field:literal;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(
            device_: nvmlDevice_t,
            count: *mut c_uint,
            out: *mut nvmlProcessInfo_t,
        ) -> nvmlReturn_t {
            let list = match device(stringify!($function), device_) {
                Ok((_, device)) => device[$field].as_array().cloned().unwrap_or_default(),
                Err(code) => return code,
            };
            // SAFETY: the caller's: there is room for so many.
            unsafe {
                let room = count.read() as usize;
                count.write(u32::try_from(list.len()).unwrap());
                if list.len() > room {
                    return INSUFFICIENT_SIZE;
                }
                for (at, process) in list.iter().enumerate() {
                    out.add(at).write(nvmlProcessInfo_t {
                        pid: u32::try_from(process[0].as_u64().unwrap()).unwrap(),
                        usedGpuMemory: process[1].as_u64().unwrap_or(NOT_AVAILABLE),
                        gpuInstanceId: u32::MAX,
                        computeInstanceId: u32::MAX,
                    });
                }
            }
            SUCCESS
        }
    )*};
}

lists! {
    nvmlDeviceGetComputeRunningProcesses_v3 = "compute";
    nvmlDeviceGetGraphicsRunningProcesses_v3 = "graphics";
    nvmlDeviceGetMPSComputeRunningProcesses_v3 = "mps";
}
