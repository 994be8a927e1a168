import type { Page } from "@playwright/test";
import { TWO } from "./corral";
import { expect, test } from "./dashboard";

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

const DEVICE = {
  index: 0,
  uuid: "GPU-0",
  name: "A card",
  util_percent: 71,
  mem_used_bytes: 17 * 2 ** 30,
  mem_total_bytes: 24 * 2 ** 30,
  mem_free_bytes: 6.5 * 2 ** 30,
  temperature_c: 61,
  power_w: 312,
  power_limit_w: 450,
  fan_percent: null,
  clocks: { core_mhz: 2520, memory_mhz: null },
  pcie: { generation: 4, width: 8, max_width: 16, rx_bytes_per_second: null, tx_bytes_per_second: null },
  throttle: ["power_cap"],
  state: "ok",
  reason: null,
  parts: [],
  processes: [
    {
      pid: 4711,
      name: "/app/llama-server",
      user: "root",
      mem_bytes: 16 * 2 ** 30,
      container: "8f31c2d4a9b0aa",
      model: "tiny",
    },
  ],
};

/** What Corral would tell of GPUs that the machines of the tests do not have: a fake at the port. */
async function gpus(page: Page, reading: object) {
  const json = { at: new Date().toISOString(), ...reading };
  await page.route("**/gpu", (route) => route.fulfill({ json }));
  await page.route("**/events?gpu=1", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: `event: gpu\ndata: ${JSON.stringify(json)}\n\n` }),
  );
}

test("GPUs: their readings, who holds the memory, and a sentence where there is none", async ({ page, open }) => {
  await gpus(page, { source: "nvml", devices: [DEVICE] });
  await open("gpu");
  const card = page.getByRole("article", { name: "A card" });
  for (const reading of ["71 %", "17.0 GiB of 24.0 GiB", "61 °C", "312 W", "slowed: power limit"])
    await expect(card).toContainText(reading);
  await expect(card.getByRole("row").last()).toContainText("Tiny");
  await expect(card.locator("canvas")).toHaveCount(4);
  const reason = "it sleeps to save power";
  await gpus(page, {
    source: "nvml",
    devices: [{ ...DEVICE, state: "asleep", reason, util_percent: null, processes: [] }],
  });
  await page.reload();
  await expect(card).toContainText("asleep");
  await expect(card).toContainText(reason);
  await gpus(page, { source: "none", reason: "libnvidia-ml.so is not there", devices: [] });
  await page.reload();
  await expect(page.getByText("libnvidia-ml.so is not there")).toBeVisible();
});

test("GPUs, as the real Corral of this machine tells them", async ({ page, open, corral }) => {
  const { devices, reason } = await corral.api("GET", "/gpu");
  await open("gpu");
  if (devices.length === 0) await expect(page.getByText(reason)).toBeVisible();
  for (const device of devices) await expect(page.getByRole("article", { name: device.name }).first()).toBeVisible();
});
