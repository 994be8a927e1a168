// What the machines of the tests do not have, or would take long to say, put in at the port: GPUs, a month of usage, lines of
// every level, a machine that lacks things.
import type { Page } from "@playwright/test";
import type { Finding, Gpu, GpuDevice, LogRecord, UsageRow } from "../../src/types";

const GIB = 2 ** 30;

export const DEVICE: GpuDevice = {
  index: 0,
  uuid: "GPU-0",
  name: "NVIDIA GeForce RTX 4090",
  source: "nvml",
  pci: "0000:01:00.0",
  state: "ok",
  reason: null,
  util_percent: 71,
  mem_util_percent: 40,
  mem_used_bytes: 17 * GIB,
  mem_free_bytes: 6.5 * GIB,
  mem_total_bytes: 24 * GIB,
  mem_shared_bytes: null,
  temperature_c: 61,
  power_w: 312,
  power_limit_w: 450,
  energy_mj: 987_654_321,
  fan_percent: 45,
  clocks: { core_mhz: 2520, memory_mhz: 10501 },
  pcie: {
    generation: 4,
    max_generation: 4,
    width: 8,
    max_width: 16,
    rx_bytes_per_second: 1_500_000,
    tx_bytes_per_second: 210_000,
  },
  throttle: ["power_cap"],
  parts: [],
  processes: [
    {
      pid: 41231,
      name: "/app/llama-server",
      user: "root",
      mem_bytes: 16.1 * GIB,
      container: "8f31c2d4a9b0aa",
      model: "tiny",
    },
    { pid: 2388, name: "/usr/bin/gnome-shell", user: "ada", mem_bytes: 0.4 * GIB, container: null, model: null },
  ],
};

/** What the GPU does so many seconds ago: it works more and less. */
function devices(ago: number, device: GpuDevice): GpuDevice {
  const wave = Math.sin(ago / 9);
  return {
    ...device,
    util_percent: 62 + 30 * wave,
    mem_used_bytes: (17.2 + 0.4 * wave) * GIB,
    temperature_c: 61 + 4 * wave,
    power_w: 290 + 80 * wave,
  };
}

/** Answers as a Corral would that reads these GPUs. */
export async function gpus(page: Page, reading: Omit<Gpu, "at">): Promise<void> {
  const json = { at: new Date().toISOString(), ...reading };
  await page.route("**/gpu", (route) => route.fulfill({ json }));
  await page.route("**/events?gpu=1", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: `event: gpu\ndata: ${JSON.stringify(json)}\n\n` }),
  );
}

/** A GPU at work: for ten minutes a reading every 15 seconds, and then each second. */
export async function gpuAtWork(page: Page, model: string): Promise<void> {
  const [server, other] = DEVICE.processes;
  const device = { ...DEVICE, processes: [{ ...server, model }, other] };
  const now = Date.now();
  const ago = Array.from({ length: 840 }, (_, at) => 840 - at).filter((second) => second < 240 || second % 15 === 0);
  const past = ago.map((second) => devices(second, device));
  await page.route("**/gpu/history", (route) =>
    route.fulfill({
      json: {
        at: ago.map((second) => new Date(now - second * 1000).toISOString()),
        devices: [
          {
            uuid: device.uuid,
            util_percent: past.map((one) => one.util_percent),
            mem_used_bytes: past.map((one) => one.mem_used_bytes),
            temperature_c: past.map((one) => one.temperature_c),
            power_w: past.map((one) => one.power_w),
          },
        ],
      },
    }),
  );
  await gpus(page, { source: "nvml", devices: [devices(0, device)] });
}

/** A month of days, two models, three sessions, with energy and its price. */
export async function usage(page: Page): Promise<void> {
  const row = (key: string, scale: number): UsageRow => ({
    key,
    requests: 41 * scale,
    tokens_in: 1_204_312 * scale,
    tokens_cached: 900_117 * scale,
    tokens_out: 84_211 * scale,
    seconds: 1932.5 * scale,
    energy_joules: 612_000 * scale,
    // Some were over too soon.
    energy_requests: scale === 2 ? 70 : 41 * scale,
  });
  const rows: Record<string, UsageRow[]> = {
    day: Array.from({ length: 30 }, (_, day) => {
      const at = new Date(Date.now() - (29 - day) * 86_400_000);
      return row(at.toISOString().slice(0, 10), 1 + (day % 7));
    }),
    model: [row("tiny", 9), row("tiny-2", 2)],
    session: [row("a very long name of a session in /home/ada/projects/of/mine", 6), row("notes", 4), row("", 1)],
  };
  await page.route("**/usage?*", (route) => {
    const by = new URL(route.request().url()).searchParams.get("by") ?? "day";
    return route.fulfill({ json: { rows: rows[by], electricity_price: "0.32 EUR" } });
  });
}

/** Lines of every level, some of them long. */
export async function logs(page: Page): Promise<void> {
  const levels = ["info", "debug", "warn", "error"] as const;
  const record = (at: number): LogRecord => ({
    ts: new Date(Date.now() - 60_000 + at * 100).toISOString(),
    level: levels[at % 9 < 4 ? at % 9 : 0],
    model: "tiny",
    msg: `line ${at} of ${at % 11 ? "a log" : "a log that has a lot to say, ".repeat(12)}`,
  });
  const body = Array.from({ length: 200 }, (_, at) => `${JSON.stringify(record(at))}\n`).join("");
  await page.route("**/logs?*", (route) => route.fulfill({ body }));
}

/** A machine on which nearly nothing is as it should be. */
export async function findings(page: Page): Promise<void> {
  const list: Finding[] = [
    { check: "catalog", status: "ok", message: "7 models in /home/ada/.config/corral/models.toml", remedy: null },
    {
      check: "jail",
      status: "problem",
      message: "bubblewrap is not installed, so that no session can be fenced in",
      remedy: "sudo apt install bubblewrap",
    },
    {
      check: "docker",
      status: "problem",
      message: "this user may not talk to Docker at /var/run/docker.sock",
      remedy: 'sudo usermod --append --groups docker "$USER"\n# then log in again',
    },
    { check: "tray", status: "warning", message: "the desktop shows no tray icons", remedy: null },
  ];
  await page.route("**/doctor", (route) => route.fulfill({ json: { findings: list } }));
}
