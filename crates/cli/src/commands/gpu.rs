//! `corral gpu`

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use anstyle::Style;
use corral_api::dto::ModelList;
use corral_client::{Client, raw};
use corral_core::gpu::{GpuDevice, GpuPcie, GpuProcess, GpuReading, GpuState};
use corral_core::{Code, Error};
use corral_daemon::Environment;
use unicode_width::UnicodeWidthStr;

use super::Outcome;
use crate::args::GpuArgs;
use crate::exit;
use crate::output::{BAD, BOLD, BUSY, DIM, Output, Paint, visible};
use crate::table::{Cell, table};
use crate::text;

/// What models are called.
type Names = HashMap<String, String>;

/// Shows what the GPUs are doing, once or each second.
pub(crate) fn gpu(args: &GpuArgs, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    if args.watch {
        return watch(&client, out);
    }
    let body = client.get("/gpu")?;
    if out.json {
        out.raw(&body)?;
    } else {
        let names = names(&client)?;
        out.text(&render(&client.parse(&body)?, &names, out.paint))?;
    }
    Ok(exit::DONE)
}

/// Shows each reading in place of the one before, until ^C; where that is no terminal, one after another.
fn watch(client: &Client, out: &mut Output) -> Outcome {
    let stream = client.stream("/events?gpu=1")?;
    let in_place = io::stdout().is_terminal();
    let mut names = Names::new();
    let mut shown: Option<String> = None;
    for (name, data) in raw(stream) {
        match name.as_str() {
            // A snapshot comes first, and whenever a model may be another one.
            "snapshot" if !out.json => names = self::names(client)?,
            "gpu" if out.json => out.raw(data.as_bytes())?,
            "gpu" => {
                let reading = client.parse(data.as_bytes())?;
                match &shown {
                    Some(before) if in_place => out.text(&back_over(before, columns()))?,
                    Some(_) => out.line("")?,
                    None => {}
                }
                out.text(&render(&reading, &names, out.paint))?;
                shown = Some(render(&reading, &names, Paint(false)));
            }
            _ => {}
        }
        out.flush()?;
    }
    let ended = Error::new(Code::DaemonUnavailable, "the Corral daemon has ended, or the connection to it broke");
    Err(ended.hint("`corral status` says whether it runs").into())
}

/// How wide the terminal is.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// What leads a terminal back to the first line of a text and wipes it out.
fn back_over(text: &str, columns: usize) -> String {
    let lines: usize = text.lines().map(|line| line.width().div_ceil(columns).max(1)).sum();
    format!("\u{1b}[{lines}A\r\u{1b}[J")
}

fn names(client: &Client) -> Result<Names, Error> {
    let ModelList { models } = client.parse(&client.get("/models")?)?;
    Ok(models.into_iter().map(|model| (model.id.to_string(), model.name)).collect())
}

fn render(reading: &GpuReading, names: &Names, paint: Paint) -> String {
    let mut rendered = String::new();
    if let Some(reason) = &reading.reason {
        rendered = paint.paint(BUSY, &visible(reason)) + "\n";
    }
    for device in &reading.devices {
        let head = format!("GPU {}", device.index);
        let head = [paint.paint(BOLD, &head), visible(&device.name)].join("  ");
        rendered.extend([head.as_str(), "\n"]);
        rendered += &table(&of_device(device, names), paint);
    }
    rendered
}

/// A driver keeps some memory for itself, in bytes; more than that is somebody's of whom it does not tell.
const OWN: u64 = 1 << 30;

fn of_device(device: &GpuDevice, names: &Names) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String, style: Style| {
        if !value.is_empty() {
            rows.push(vec![Cell::new(format!("  {name}")).style(DIM), Cell::new(value).style(style)]);
        }
    };
    let state = match device.state {
        GpuState::Ok => "",
        GpuState::Asleep => "asleep",
        GpuState::Lost => "lost",
        GpuState::Denied => "denied",
        GpuState::Silent => "silent",
    };
    let style = if matches!(device.state, GpuState::Ok | GpuState::Asleep) { Style::new() } else { BAD };
    row("state", state.to_owned(), style);
    row("reason", device.reason.clone().unwrap_or_default(), Style::new());
    row("use", together([whole(device.util_percent, "%"), clocks(device)]), Style::new());
    let shared = device.mem_shared_bytes.map(|shared| format!("{} of it the machine's", text::size(shared)));
    let own = memory(device.mem_used_bytes, device.mem_total_bytes);
    row("memory", together([own, shared.unwrap_or_default()]), Style::new());
    let power = match (device.power_w, device.power_limit_w) {
        (Some(power), Some(limit)) => format!("{power:.0} of {limit:.0} W"),
        (power, _) => whole(power, "W"),
    };
    let fan = whole(device.fan_percent, "% fan").replace(" %", "%");
    row("power", together([power, whole(device.temperature_c, "°C"), fan]), Style::new());
    row("link", link(device.pcie), Style::new());
    let slowed = device.throttle.iter().flatten().map(|reason| reason.words()).collect::<Vec<_>>().join(", ");
    row("slowed by", if slowed == "idle" { String::new() } else { slowed }, BUSY);
    for part in &device.parts {
        row("part", format!("{}  {}", part.name, memory(part.mem_used_bytes, part.mem_total_bytes)), Style::new());
    }
    if device.processes.is_empty() && device.mem_used_bytes.is_some_and(|used| used > OWN) {
        row("held by", "the driver does not say".to_owned(), Style::new());
    }
    for (at, process) in device.processes.iter().enumerate() {
        let (style, name) =
            (if process.model.is_some() { BOLD } else { Style::new() }, if at == 0 { "held by" } else { "" });
        row(name, of_process(process, names), style);
    }
    rows
}

/// For instance `GLM Flash Q4, 18.2 GB`, or `firefox of ada, 0.4 GB`.
fn of_process(process: &GpuProcess, names: &Names) -> String {
    let GpuProcess { pid, name, user, mem_bytes, container, model } = process;
    let bytes = mem_bytes.map_or_else(String::new, |bytes| format!(", {}", text::size(bytes)));
    if let Some(model) = model {
        let name = names.get(model.as_str()).map_or(model.as_str(), String::as_str);
        return format!("{name}{bytes}");
    }
    let program = name.as_deref().map(|name| name.rsplit('/').next().unwrap_or(name));
    let program = program.map_or_else(|| format!("process {pid}"), |program| format!("{program} ({pid})"));
    let whose = match (container, user) {
        (Some(container), _) => format!(" in container {}", container.chars().take(12).collect::<String>()),
        (None, Some(user)) => format!(" of {user}"),
        (None, None) => String::new(),
    };
    format!("{program}{whose}{bytes}")
}

fn memory(used: Option<u64>, total: Option<u64>) -> String {
    match (used, total) {
        (Some(used), Some(total)) => {
            format!("{} of {}  {}", text::size(used), text::size(total), text::percent(used, total))
        }
        (Some(used), None) => text::size(used),
        (None, Some(total)) => format!("{} in all", text::size(total)),
        (None, None) => String::new(),
    }
}

fn clocks(device: &GpuDevice) -> String {
    device.clocks.core_mhz.map_or_else(String::new, |mhz| format!("{} MHz", text::grouped(mhz.into())))
}

/// For instance `PCIe 4 x8 of x16  in 1.5 MB/s  out 0.2 MB/s`.
fn link(pcie: GpuPcie) -> String {
    let Some((generation, width)) = pcie.generation.zip(pcie.width) else { return String::new() };
    let most = pcie.max_width.filter(|most| *most != width).map_or_else(String::new, |most| format!(" of x{most}"));
    let flow = |name: &str, bytes: Option<u64>| {
        bytes.map_or_else(String::new, |bytes| format!("{name} {}/s", text::size(bytes)))
    };
    let flows = [flow("in", pcie.rx_bytes_per_second), flow("out", pcie.tx_bytes_per_second)];
    together([format!("PCIe {generation} x{width}{most}")].into_iter().chain(flows))
}

fn whole(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(String::new, |value| format!("{value:.0} {unit}"))
}

/// What there is of these, two spaces apart.
fn together(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use corral_core::ModelId;
    use corral_core::gpu::{GpuClocks, GpuPart, GpuSource, Throttle};

    use super::*;

    fn reading(devices: Vec<GpuDevice>, reason: Option<&str>) -> GpuReading {
        let at = "2026-11-21T08:00:00Z".parse().unwrap();
        GpuReading { at, source: GpuSource::Nvml, reason: reason.map(str::to_owned), devices }
    }

    fn shown(reading: &GpuReading) -> String {
        let names = Names::from([("glm".to_owned(), "GLM Flash Q4".to_owned())]);
        render(reading, &names, Paint(false))
    }

    #[test]
    fn a_gpu_at_work_says_who_holds_its_memory() {
        let process = |pid, name: &str, bytes| GpuProcess {
            pid,
            name: Some(name.to_owned()),
            mem_bytes: Some(bytes),
            user: Some("ada".to_owned()),
            ..GpuProcess::default()
        };
        let server =
            GpuProcess { model: ModelId::new("glm").ok(), ..process(4711, "/app/llama-server", 18_200_000_000) };
        let foreign = GpuProcess { container: Some("8f31c2d4a9b00a1b2c3d".to_owned()), ..process(9, "/x/python", 1) };
        let hidden = GpuProcess { pid: 12, ..GpuProcess::default() };
        let device = GpuDevice {
            name: "NVIDIA GeForce RTX 4090".to_owned(),
            util_percent: Some(71.4),
            mem_used_bytes: Some(19_500_000_000),
            mem_total_bytes: Some(25_769_803_776),
            temperature_c: Some(61.0),
            power_w: Some(312.5),
            power_limit_w: Some(450.0),
            fan_percent: Some(45.0),
            clocks: GpuClocks { core_mhz: Some(2_520), memory_mhz: None },
            pcie: GpuPcie {
                generation: Some(4),
                width: Some(8),
                max_width: Some(16),
                rx_bytes_per_second: Some(1_500_000),
                ..GpuPcie::default()
            },
            throttle: Some(vec![Throttle::PowerCap, Throttle::Thermal]),
            processes: vec![server, process(100, "/usr/bin/firefox", 400_000_000), foreign, hidden],
            ..GpuDevice::default()
        };
        let expected = concat!(
            "GPU 0  NVIDIA GeForce RTX 4090\n",
            "  use        71 %  2,520 MHz\n",
            "  memory     19.5 GB of 25.8 GB  75%\n",
            "  power      312 of 450 W  61 °C  45% fan\n",
            "  link       PCIe 4 x8 of x16  in 1.5 MB/s\n",
            "  slowed by  power limit, too hot\n",
            "  held by    GLM Flash Q4, 18.2 GB\n",
            "             firefox (100) of ada, 400.0 MB\n",
            "             python (9) in container 8f31c2d4a9b0, 1 B\n",
            "             process 12\n",
        );
        assert_eq!(shown(&reading(vec![device], None)), expected);
    }

    #[test]
    fn memory_that_is_the_machines_is_told_as_such() {
        let device = GpuDevice {
            name: "AMD Radeon 8060S".to_owned(),
            mem_used_bytes: Some(16_000_000_000),
            mem_total_bytes: Some(64_000_000_000),
            mem_shared_bytes: Some(63_500_000_000),
            ..GpuDevice::default()
        };
        let expected = "GPU 0  AMD Radeon 8060S\n  memory   16.0 GB of 64.0 GB  25%  63.5 GB of it the machine's\n  held by  the driver does not say\n";
        assert_eq!(shown(&reading(vec![device], None)), expected);
    }

    #[test]
    fn what_is_not_there_says_why() {
        let none = reading(Vec::new(), Some("the NVIDIA driver is not loaded"));
        assert_eq!(shown(&none), "the NVIDIA driver is not loaded\n");
        let lost = GpuDevice {
            index: 1,
            name: "A".to_owned(),
            state: GpuState::Lost,
            reason: Some("it has fallen off the bus".to_owned()),
            throttle: Some(vec![Throttle::Idle]),
            parts: vec![GpuPart { name: "1g.5gb".to_owned(), mem_total_bytes: Some(5), ..GpuPart::default() }],
            ..GpuDevice::default()
        };
        let expected = "GPU 1  A\n  state   lost\n  reason  it has fallen off the bus\n  part    1g.5gb  5 B in all\n";
        assert_eq!(shown(&reading(vec![lost], None)), expected);
    }

    #[test]
    fn a_reading_takes_the_place_of_the_one_before_also_where_lines_are_broken() {
        assert_eq!(back_over("a\nbc\n", 80), "\u{1b}[2A\r\u{1b}[J");
        assert_eq!(back_over("123456789\n\n12345\n", 5), "\u{1b}[4A\r\u{1b}[J");
    }
}
