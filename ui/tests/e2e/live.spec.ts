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
  temperature_c: 61,
  power_w: 312,
  processes: [
    { pid: 4711, name: "/app/llama-server", mem_bytes: 16 * 2 ** 30, container: "8f31c2d4a9b0aa", model: "tiny" },
  ],
};

test("GPUs: their readings, who holds the memory, and a sentence where there is none", async ({ page, open }) => {
  // A fake at the port: the machines of the tests have no GPU.
  await page.route("**/gpu", (route) => route.fulfill({ json: { source: "nvml", devices: [DEVICE] } }));
  await open("gpu");
  const card = page.getByRole("article", { name: "A card" });
  for (const reading of ["71 %", "17.0 GiB of 24.0 GiB", "61 °C", "312 W"]) await expect(card).toContainText(reading);
  await expect(card.getByRole("row").last()).toContainText("Tiny");
  await expect(card.locator("canvas")).toHaveCount(4);
  await page.route("**/gpu", (route) =>
    route.fulfill({ json: { source: "none", reason: "libnvidia-ml.so is not there", devices: [] } }),
  );
  await page.reload();
  await expect(page.getByText("libnvidia-ml.so is not there")).toBeVisible();
  await page.route("**/gpu", (route) => route.fulfill({ status: 404, json: {} }));
  await page.reload();
  await expect(page.getByText("This Corral does not read GPUs")).toBeVisible();
});
