import { readFileSync } from "node:fs";
import { TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

test("a real request shows by day, model and session, and goes out as CSV", async ({ page, open, corral }) => {
  const { token } = await corral.api("POST", "/sessions", { label: "a test" });
  await corral.load("tiny");
  await corral.ask("tiny", "hello", token);
  await open("usage");
  await page.getByRole("button", { name: "Read again" }).click();
  const table = page.locator("table.listing");
  await expect(async () => {
    await page.getByRole("button", { name: "Read again" }).click();
    await expect(table.locator("tbody tr")).toHaveCount(1, { timeout: 1000 });
  }).toPass();
  await expect(table.locator("tbody th")).toHaveText(/^\d{4}-\d\d-\d\d$/);
  await expect(page.locator(".chart canvas")).toBeVisible();

  await page.getByRole("radio", { name: "Session", exact: true }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("a test");
  await page.getByRole("radio", { name: "Model", exact: true }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("Tiny");
  await page.getByRole("radio", { name: "7 days" }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("Tiny");

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "CSV" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("corral-usage-model-7d.csv");
  const [header, row] = readFileSync(await download.path(), "utf8").split("\r\n");
  expect(header).toBe("model,requests,tokens_in,tokens_cached,tokens_out,seconds,energy_joules");
  expect(row).toMatch(/^tiny,1,\d+,\d+,\d+,[\d.]+,$/);
});
