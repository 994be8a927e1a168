import type { Live, LiveSession } from "../../src/types";
import { eventually, TWO } from "./corral";
import { expect, test } from "./dashboard";
import { DEVICE, gpuAtWork, gpus } from "./sample";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

test("a session shows what it used, and is ended", async ({ page, open, corral }) => {
  const { session, token } = await corral.api("POST", "/sessions", { label: "my editor" });
  await corral.load("tiny");
  await corral.ask("tiny", "hello", token);
  await open("live");
  const row = page.locator(`[data-session="${session.id}"]`);
  await expect(row).toContainText("my editor");
  await expect(row.locator("td").nth(3)).toHaveText("1");
  await expect(row.locator("td").nth(6)).not.toHaveText("0");
  await expect(page.getByText("Slot 0")).toBeVisible();

  await page.getByRole("button", { name: "End the session my editor" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await expect(row).toBeVisible();
  await page.getByRole("button", { name: "End the session my editor" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End the session" }).click();
  await expect(row).toBeHidden();
  await expect(page.getByText("No session is attached")).toBeVisible();
  expect((await corral.api("GET", "/status")).sessions).toEqual([]);
});

test("a session shows its energy, and of how many requests that is", async ({ page, open, corral }) => {
  const { session } = await corral.api("POST", "/sessions", { label: "my editor" });
  const other = (await corral.api("POST", "/sessions", { label: "another" })).session;
  const told: Live = await eventually("both sessions are told of", async () => {
    const live: Live = await corral.api("GET", "/live");
    return live.sessions.length === 2 && live;
  });
  expect(told.sessions.map((one) => one.energy_requests)).toEqual([0, 0]);
  // A fake at the port: what was measured, on a machine that has a GPU.
  let energy: Partial<LiveSession> = {};
  const fake = (live: Live) => ({
    ...live,
    sessions: live.sessions.map((one) => (one.id === session.id ? { ...one, requests: 40, ...energy } : one)),
  });
  await page.route("**/live", async (route) => route.fulfill({ json: fake(told) }));
  await page.route("**/events?live=1", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: `event: live\ndata: ${JSON.stringify(fake(told))}\n\n` }),
  );
  await open("live");
  const cell = (id: string) => page.locator(`[data-session="${id}"] td`).nth(7);
  const head = page.getByRole("columnheader", { name: "Energy" });
  await expect(cell(session.id).getByRole("button")).toBeVisible();
  await expect(head).toBeHidden();
  energy = { energy_joules: 3100, energy_requests: 12 };
  await page.reload();
  await expect(head).toBeVisible();
  await expect(cell(session.id)).toHaveText("0.9 Wh12 of 40 requests measured");
  await expect(cell(other.id)).toHaveText("–");
  energy = { energy_joules: 3100, energy_requests: 40 };
  await page.reload();
  await expect(cell(session.id)).toHaveText("0.9 Wh");
  for (const { id } of [session, other]) await corral.api("DELETE", `/sessions/${id}`);
});

test("health says what the doctor says, with a copy button per command", async ({ page, open, corral }) => {
  const { findings } = await corral.api("GET", "/doctor");
  await open("health");
  await expect(page.locator(".finding")).toHaveCount(findings.length);
  for (const finding of findings) await expect(page.locator(".findings")).toContainText(finding.message);
  // A fake at the port: what this machine lacks differs.
  await page.route("**/doctor", (route) =>
    route.fulfill({
      json: {
        findings: [{ check: "jail", status: "problem", message: "no bwrap", remedy: "sudo apt install bubblewrap" }],
      },
    }),
  );
  await page.getByRole("button", { name: "Check again" }).click();
  await expect(page.locator(".note")).toHaveText("1 problem");
  await page.getByRole("button", { name: "Copy what mends jail" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("sudo apt install bubblewrap");
});

test("GPUs: their readings, who holds the memory, and a sentence where there is none", async ({ page, open }) => {
  await gpus(page, { source: "nvml", devices: [DEVICE] });
  await open("gpu");
  const card = page.getByRole("article", { name: DEVICE.name });
  for (const reading of ["71 %", "17.0 GiB of 24.0 GiB", "61 °C", "312 W", "slowed: power limit"])
    await expect(card).toContainText(reading);
  await expect(card.getByRole("row").nth(1)).toContainText("Tiny");
  await expect(card.locator("canvas")).toHaveCount(4);
  const reason = "it sleeps to save power";
  await gpus(page, {
    source: "nvml",
    devices: [{ ...DEVICE, state: "asleep", reason, util_percent: null, processes: [] }],
  });
  await page.reload();
  await expect(card).toContainText("asleep");
  await expect(card).toContainText(reason);
  // One whose driver does not say who is on it, and that is a part of the processor.
  await gpus(page, { source: "amdgpu", devices: [{ ...DEVICE, mem_shared_bytes: 23 * 2 ** 30, processes: [] }] });
  await page.reload();
  await expect(card).toContainText("23.0 GiB of it the machine's");
  await expect(card).toContainText("The driver does not say who holds it.");
  const lost = { state: "lost" as const, reason: "it has fallen off the bus", mem_used_bytes: null, processes: [] };
  await gpus(page, { source: "nvml", devices: [{ ...DEVICE, ...lost }] });
  await page.reload();
  await expect(card).toContainText("Who holds its memory cannot be told now.");
  await gpus(page, { source: "none", reason: "libnvidia-ml.so is not there", devices: [] });
  await page.reload();
  await expect(page.getByText("libnvidia-ml.so is not there")).toBeVisible();
});

test("GPUs: the charts have what was before the page was opened, and what comes", async ({ page, open }) => {
  await gpuAtWork(page, "tiny");
  await open("gpu");
  const chart = page.locator(".device canvas").first();
  /** How much of each quarter is drawn in the colour of the line. */
  const drawn = () =>
    chart.evaluate((canvas: HTMLCanvasElement) => {
      const { width, height } = canvas;
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, width, height);
      const quarters = [0, 0, 0, 0];
      for (let at = 0; at < data.length; at += 4) {
        const [red, , blue, alpha] = data.slice(at, at + 4);
        if (alpha > 200 && blue > red + 60) quarters[Math.floor((((at / 4) % width) / width) * 4)] += 1;
      }
      return quarters;
    });
  await expect.poll(async () => Math.min(...(await drawn()))).toBeGreaterThan(20);
  await page.unroute("**/gpu/history");
  await page.route("**/gpu/history", (route) => route.fulfill({ json: { at: [], devices: [] } }));
  await page.reload();
  await expect(chart).toBeVisible();
  await expect(page.getByText("71 %").or(page.getByText("62 %"))).toBeVisible();
  expect((await drawn()).slice(0, 3)).toEqual([0, 0, 0]);
});

test("GPUs, as the real Corral of this machine tells them", async ({ page, open, corral }) => {
  const { devices, reason } = await corral.api("GET", "/gpu");
  await open("gpu");
  if (devices.length === 0) await expect(page.getByText(reason)).toBeVisible();
  for (const device of devices) await expect(page.getByRole("article", { name: device.name }).first()).toBeVisible();
});
