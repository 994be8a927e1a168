import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { count, tokens } from "../../src/lib/format";
import { dayOf } from "../../src/lib/usage";
import type { UsageRow } from "../../src/types";
import { TWO } from "./corral";
import { expect, test, violations } from "./dashboard";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

/** The values of the legend while the pointer is over one of so many columns: what the chart itself holds there. */
async function legend(page: Page, column: number, columns: number): Promise<(string | null)[]> {
  const over = page.locator(".chart .u-over");
  const { width, height } = (await over.boundingBox())!;
  await over.hover({ position: { x: (width * (column + 0.5)) / columns, y: height / 2 } });
  return page.locator(".chart .u-legend .u-value").allTextContents();
}

/** How many pixels of each colour of the page the middle of that column has, from top to bottom. */
async function painted(page: Page, column: number, columns: number, colors: string[]): Promise<number[]> {
  return page.locator(".chart canvas").evaluate(
    (canvas: HTMLCanvasElement, { at, colors }) => {
      const over = canvas.parentElement!.querySelector(".u-over")!.getBoundingClientRect();
      const box = canvas.getBoundingClientRect();
      const scale = canvas.width / box.width;
      const x = Math.round((over.left - box.left + over.width * at) * scale);
      const { data } = canvas.getContext("2d")!.getImageData(x, 0, 1, canvas.height);
      const style = getComputedStyle(canvas);
      return colors.map((name) => {
        const hex = Number.parseInt(style.getPropertyValue(name).trim().slice(1), 16);
        let pixels = 0;
        for (let byte = 0; byte < data.length; byte += 4) {
          const color = (data[byte] << 16) | (data[byte + 1] << 8) | data[byte + 2];
          if (color === hex && data[byte + 3] === 255) pixels += 1;
        }
        return pixels / scale;
      });
    },
    { at: (column + 0.5) / columns, colors },
  );
}

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
  const [told] = (await corral.api("GET", "/usage?by=day")).rows as UsageRow[];
  expect(told.tokens_in * told.tokens_out).toBeGreaterThan(0);
  expect(await legend(page, 30, 31)).toEqual([
    expect.stringMatching(/^\d+ [A-Z][a-z]+$/),
    tokens(told.tokens_in + told.tokens_out),
    tokens(told.tokens_in),
    tokens(told.tokens_cached),
  ]);

  const bars = page.getByRole("listitem");
  const said =
    `${tokens(told.tokens_in + told.tokens_out)} tokens: ${tokens(told.tokens_in)} in, ` +
    `${tokens(told.tokens_cached)} of them out of the cache, ${tokens(told.tokens_out)} out`;
  await page.getByRole("radio", { name: "Session", exact: true }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("a test");
  await expect(bars).toHaveText(`a test${said}`);
  await page.getByRole("radio", { name: "Model", exact: true }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("Tiny");
  await expect(bars).toHaveText(`Tiny${said}`);
  await page.getByRole("radio", { name: "7 days" }).check({ force: true });
  await expect(table.locator("tbody th")).toHaveText("Tiny");

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "CSV" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("corral-usage-model-7d.csv");
  const [header, row] = readFileSync(await download.path(), "utf8").split("\r\n");
  expect(header).toBe("model,requests,tokens_in,tokens_cached,tokens_out,seconds,energy_joules,energy_requests");
  expect(row).toMatch(/^tiny,1,\d+,\d+,\d+,[\d.]+,,0$/);
});

const row = (key: string, label: string | null, read: number, cached: number, written: number): UsageRow => ({
  key,
  label,
  requests: 3,
  tokens_in: read,
  tokens_cached: cached,
  tokens_out: written,
  seconds: 4,
});

/** What a month of work would tell: a fake at the port. */
async function told(page: Page, rows: Record<string, UsageRow[]>, price: string | null = null) {
  await page.route("**/usage?*", (route) => {
    const by = new URL(route.request().url()).searchParams.get("by") ?? "day";
    return route.fulfill({ json: { by, rows: rows[by] ?? [], electricity_price: price } });
  });
}

test("energy of some requests is not shown as that of all", async ({ page, open }) => {
  const of = (key: string, joules?: number, measured?: number): UsageRow => ({
    ...row(key, null, 10, 5, 1),
    energy_joules: joules,
    energy_requests: measured,
  });
  const rows = [of("2026-11-18", 720_000, 3), of("2026-11-19", undefined, 0), of("2026-11-20", 3600, 1)];
  await told(page, { day: rows, model: [of("tiny", undefined, 0)], session: [of("s", 9)] }, "0.50 EUR");
  await page.setViewportSize({ width: 760, height: 800 });
  await open("usage");
  const table = page.locator("table.listing");
  const cells = (place: number) =>
    table.locator("tr").nth(place).locator("td").nth(5).or(table.locator("tr").nth(place).locator("td").nth(6));
  await expect(cells(1)).toHaveText(["1.0 Wh1 of 3 requests measured", "0.0005 EUR"]);
  await expect(cells(2)).toHaveText(["–", "–"]);
  await expect(cells(3)).toHaveText(["200.0 Wh", "0.10 EUR"]);
  await expect(cells(4)).toHaveText(["201.0 Wh4 of 9 requests measured", "0.10 EUR"]);
  for (const place of [1, 2, 3, 4]) for (const cell of await cells(place).all()) await expect(cell).toBeVisible();
  expect(await violations(page)).toEqual([]);
  await page.getByRole("radio", { name: "Session", exact: true }).check({ force: true });
  await expect(cells(1)).toHaveText(["9.0 Jof how many requests is unknown", "0.000001 EUR"]);
  await page.getByRole("radio", { name: "Model", exact: true }).check({ force: true });
  await expect(table.getByRole("columnheader")).toHaveText(["Model", "Requests", "In", "Cached", "Out", "Time"]);
});

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test("what is drawn are the numbers", async ({ page, open }) => {
      const yesterday = new Date();
      yesterday.setDate(yesterday.getDate() - 1);
      const days = [
        row(dayOf(yesterday), null, 40_000, 10_000, 10_000),
        row(dayOf(new Date()), null, 80_000, 20_000, 20_000),
      ];
      const sessions = Array.from({ length: 14 }, (_, index) =>
        row(`s${index}`, `session ${index}`, 1_000 * (index + 1), 500, 200),
      );
      await told(page, {
        day: days,
        model: [row("tiny", null, 30_000, 12_000, 10_000), row("", null, 6_000, 0, 4_000)],
        session: sessions,
      });
      await open("usage");
      await expect(page.locator(".chart canvas")).toBeVisible();
      expect((await legend(page, 29, 31)).slice(1)).toEqual(["50k", "40k", "10k"]);
      expect((await legend(page, 30, 31)).slice(1)).toEqual(["100k", "80k", "20k"]);
      expect((await legend(page, 3, 31)).slice(1)).toEqual(["0", "0", "0"]);
      await page.mouse.move(0, 0);
      const colors = ["--bar-out", "--bar-in", "--bar-cached"];
      const [before, today, empty] = [
        await painted(page, 29, 31, colors),
        await painted(page, 30, 31, colors),
        await painted(page, 3, 31, colors),
      ];
      const high = today[0] + today[1] + today[2];
      expect(high).toBeGreaterThan(100);
      // Out 20k, in and not out of the cache 60k, out of the cache 20k; the day before half of each. An edge may be blurred.
      for (const [place, share] of [0.2, 0.6, 0.2].entries()) {
        expect(Math.abs(today[place] - high * share)).toBeLessThanOrEqual(3);
        expect(Math.abs(before[place] - (high * share) / 2)).toBeLessThanOrEqual(3);
      }
      expect(empty).toEqual([0, 0, 0]);

      await page.getByRole("radio", { name: "Model", exact: true }).check({ force: true });
      const bars = page.getByRole("figure", { name: "Tokens per model" }).getByRole("listitem");
      await expect(bars).toHaveCount(2);
      await expect(bars.first()).toContainText("Tiny40k tokens: 30k in, 12k of them out of the cache, 10k out");
      await expect(bars.last()).toContainText("without a model10k tokens");
      const widths = async (place: number) => {
        const parts = await bars.nth(place).locator(".shares-bar > span").all();
        return Promise.all(parts.map(async (part) => (await part.boundingBox())!.width));
      };
      const full = (await bars.first().locator(".shares-bar").boundingBox())!.width;
      for (const [place, shares] of [
        [0.3, 0.45, 0.25],
        [0, 0.15, 0.1],
      ].entries()) {
        for (const [part, width] of (await widths(place)).entries()) {
          expect(Math.abs(width - full * shares[part]), `part ${part} of bar ${place}`).toBeLessThan(1);
        }
      }
      expect(await violations(page)).toEqual([]);

      await page.getByRole("radio", { name: "Session", exact: true }).check({ force: true });
      const many = page.getByRole("figure", { name: "Tokens per session" }).getByRole("listitem");
      await expect(many).toHaveCount(12);
      await expect(many.first()).toContainText(/^session 13/);
      await expect(many.last()).toContainText(/^3 others/);
      await expect(page.locator("table.listing tbody tr")).toHaveCount(14);
      await expect(page.locator("table.listing tfoot")).toContainText(count(42));
      expect(await violations(page)).toEqual([]);
      if (process.env.CORRAL_SCREENSHOTS)
        await page.screenshot({ path: `${process.env.CORRAL_SCREENSHOTS}/usage-session-${colorScheme}.png` });
    });
  });
}
