import type { Page } from "@playwright/test";
import { expect, test } from "./dashboard";

test("the lines of the real server: followed, filtered, paused, copied", async ({ page, open, corral }) => {
  await corral.load("tiny");
  await open("logs");
  const log = page.getByRole("log");
  await expect(log).toContainText("model loaded");
  const filter = page.getByRole("searchbox", { name: "Filter lines" });
  await filter.fill("model LOADED");
  await expect(log.locator(".line")).toHaveCount(1);
  await page.getByRole("button", { name: "Copy all shown lines" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/info {2}tiny {2}.*model loaded$/);

  await filter.fill("print_timing");
  await page.getByRole("button", { name: "Pause" }).click();
  const before = await log.locator(".line").count();
  await corral.ask("tiny", "hello");
  await expect(page.locator(".note")).toContainText("more since the pause");
  expect(await log.locator(".line").count()).toBe(before);
  await page.getByRole("button", { name: "Pause" }).click();
  await expect(log.locator(".line").first()).toContainText("print_timing");

  await filter.fill("");
  await page.getByRole("radio", { name: "Errors" }).check({ force: true });
  await expect(log).toContainText("No line matches the filter");
});

test("a stream that breaks is told beside the lines, and goes on by itself", async ({ page, open, corral }) => {
  await corral.load("tiny");
  // A fake at the port: the stream ends, and is not to be had again.
  let ways: "lines" | "nothing" | "real" = "lines";
  const line = { ts: new Date(0).toISOString(), level: "info", model: "tiny", msg: "the line before" };
  await page.route("**/logs?*", (route) => {
    const way = ways;
    if (way === "lines") ways = "nothing";
    if (way === "real") return route.continue();
    return way === "lines" ? route.fulfill({ body: `${JSON.stringify(line)}\n` }) : route.abort();
  });
  await open("logs");
  const log = page.getByRole("log");
  await expect(log).toContainText("the line before");
  const strip = page.getByRole("alert").filter({ hasText: "No new lines come" });
  await expect(strip).toContainText("Corral does not answer");
  await expect(strip).toContainText(/next try in \d+ s/);
  await expect(log).toContainText("the line before");
  await expect(strip).toContainText("are read later, as far as Corral still has them");
  await expect(log).not.toContainText("were not read");
  ways = "real";
  await expect(log).toContainText("model loaded");
  await expect(strip).toBeHidden();
  // Nothing shows that no line is missing after the one of the fake, however the lines are filtered.
  await expect(log.locator(".line.gap .msg")).toHaveText("… lines in between were not read, if there were any");
  await page.getByRole("searchbox", { name: "Filter lines" }).fill("model loaded");
  await expect(log.locator(".line")).toHaveCount(2);
  await page.getByRole("searchbox", { name: "Filter lines" }).fill("");
  await corral.ask("tiny", "hello");
  await expect(log).toContainText("print_timing");
});

test("a stream that ends and is to be had again at once is not worth a word", async ({ page, open }) => {
  let streams = 0;
  await page.route("**/logs?*", (route) => {
    streams += 1;
    return route.fulfill({ body: "" });
  });
  await open("logs");
  await page.evaluate(() => {
    const seen = new MutationObserver(() => {
      if (document.querySelector(".strip")) document.body.dataset.told = "yes";
    });
    seen.observe(document.body, { childList: true, subtree: true });
  });
  await expect.poll(() => streams).toBeGreaterThan(2);
  expect(await page.evaluate(() => document.body.dataset.told)).toBeUndefined();
});

test("who leaves the log and comes back finds all lines, each once, and no mark where none is missing", async ({
  page,
  open,
  corral,
}) => {
  await corral.load("tiny");
  await open("logs");
  const log = page.getByRole("log");
  const filter = page.getByRole("searchbox", { name: "Filter lines" });
  await filter.fill("model loaded");
  await expect(log.locator(".line")).not.toHaveCount(0);
  const before = await log.locator(".line").count();
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await corral.ask("tiny", "meanwhile");
  await page.getByRole("link", { name: "Logs", exact: true }).click();
  await expect(log.locator(".line")).toHaveCount(before);
  await filter.fill("print_timing");
  await expect(log).toContainText("print_timing");
  await filter.fill("");
  await expect(log.locator(".line.gap")).toHaveCount(0);
});

/** A log that is fed by the test: a fake at the port, since a real server cannot be told what to say when. */
async function fed(page: Page) {
  const queue: string[] = [];
  let wake = () => {};
  await page.exposeFunction("nextLines", async () => {
    if (!queue.length) await new Promise<void>((resolve) => (wake = resolve));
    return queue.splice(0).join("");
  });
  await page.addInitScript(() => {
    const { nextLines } = window as unknown as { nextLines: () => Promise<string> };
    const real = window.fetch;
    window.fetch = async (input, init) => {
      if (!`${input}`.includes("/logs?")) return real(input, init);
      const body = new ReadableStream({
        pull: async (to) => to.enqueue(new TextEncoder().encode(await nextLines())),
      });
      return new Response(body);
    };
  });
  return (first: number, lines: number) => {
    const records = Array.from({ length: lines }, (_, index) => ({
      ts: new Date(START + first + index).toISOString(),
      level: "info",
      model: "tiny",
      msg: `line ${first + index} of a log`,
    }));
    queue.push(records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    wake();
  };
}

test("who scrolls up stays there while lines come and old ones go; Follow leads to the end", async ({ page, open }) => {
  const send = await fed(page);
  await open("logs");
  send(0, 99_000);
  const log = page.getByRole("log");
  const follow = page.getByRole("button", { name: "Follow" });
  await expect(log.locator(".line").last()).toContainText("line 98999 ", { timeout: 30_000 });
  await expect(follow).toHaveAttribute("aria-pressed", "true");
  send(99_000, 500);
  await expect(log.locator(".line").last()).toContainText("line 99499 ");

  await log.hover();
  await page.mouse.wheel(0, -4_000);
  await expect(follow).toHaveAttribute("aria-pressed", "false");
  /** The first line in sight, and how far its upper end is from that of the box. */
  const place = () =>
    log.evaluate((box) => {
      const top = box.getBoundingClientRect().top;
      const first = [...box.querySelectorAll(".line")].find((line) => line.getBoundingClientRect().bottom > top + 2);
      return { line: /line \d+ /.exec(first?.textContent ?? "")?.[0], at: first!.getBoundingClientRect().top - top };
    });
  // A wheel may be animated: it has come to rest where two looks, two frames apart, see the same.
  let reading = await place();
  await expect(async () => {
    const before = reading;
    await page.evaluate(() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then))));
    reading = await place();
    expect(reading).toEqual(before);
    expect(Number(/\d+/.exec(reading.line ?? "")?.[0])).toBeLessThan(99_450);
  }).toPass();

  // Lines come while there is room for them, then as many go at the other end.
  const note = page.locator(".note");
  send(99_500, 500);
  await expect(note).toContainText("100,000 lines");
  expect((await place()).line).toBe(reading.line);
  for (const first of [100_000, 102_000, 104_000]) {
    send(first, 2_000);
    const oldest = first + 2_000 - 100_000;
    await expect.poll(() => log.evaluate((box) => box.scrollTop)).toBeLessThan((99_500 - oldest) * 20);
    await expect.poll(async () => (await place()).line).toBe(reading.line);
    expect(Math.abs((await place()).at - reading.at)).toBeLessThan(2);
  }
  await expect(follow).toHaveAttribute("aria-pressed", "false");

  await follow.click();
  await expect(follow).toHaveAttribute("aria-pressed", "true");
  await expect(log.locator(".line").last()).toContainText("line 105999 ");
  send(106_000, 10);
  await expect(log.locator(".line").last()).toContainText("line 106009 ");
});

const START = Date.parse("2026-11-21T12:00:00Z");

/** 100,000 lines as Corral sends them, from line `first` on. */
function lines(first: number): string {
  const records = Array.from({ length: 100_000 }, (_, index) =>
    JSON.stringify({
      ts: new Date(START + first + index).toISOString(),
      level: index % 50 ? "info" : "warn",
      model: "tiny",
      msg: `line ${first + index} of a log that is long`,
    }),
  );
  return `${records.join("\n")}\n`;
}

test("100,000 lines without a stutter", async ({ page, open }) => {
  // A fake at the port: a real server would take long to say so much.
  await page.route("**/logs?*", (route) => route.fulfill({ body: lines(0) }));
  await open("logs");
  await expect(page.locator(".note")).toContainText("100,000 lines");
  const log = page.getByRole("log");
  await expect(log.locator(".line").last()).toContainText("line 99999 ");
  expect(await log.locator(".line").count()).toBeLessThan(120);

  // A step through the log costs the lines that it brings in, not the lines there are: the time itself is the benchmark's.
  const seen = await log.evaluate(async (box) => {
    const steps: { first: string; lines: number; added: number }[] = [];
    let added = 0;
    const watch = new MutationObserver((changes) => {
      for (const change of changes) added += change.addedNodes.length;
    });
    watch.observe(box, { childList: true, subtree: true });
    for (let step = 0; step <= 60; step += 1) {
      added = 0;
      box.scrollTop = (box.scrollHeight * step) / 60;
      await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      const drawn = box.querySelectorAll(".line");
      steps.push({ first: drawn[0]?.textContent ?? "", lines: drawn.length, added });
    }
    watch.disconnect();
    return steps;
  });
  const places = seen.map((step) => Number(/line (\d+) /.exec(step.first)?.[1]));
  expect(places[0]).toBe(0);
  for (const [step, { lines, added }] of seen.entries()) {
    expect(lines).toBeGreaterThan(5);
    expect(lines).toBeLessThan(120);
    expect(added).toBeLessThan(1_200);
    if (step > 0 && step < 60) expect(places[step]).toBeGreaterThan(places[step - 1] ?? 0);
  }
  await page.getByRole("searchbox", { name: "Filter lines" }).fill("line 77777 ");
  await expect(log.locator(".line")).toHaveCount(1);
});

test("however many lines come, the memory they take has an end", async ({ page, open }) => {
  // A fake at the port: each time the stream is opened again it has the next 100,000 lines.
  let sent = 0;
  let allowed = 2;
  await page.route("**/logs?*", (route) => {
    if (sent === allowed) return route.fulfill({ body: "" });
    sent += 1;
    return route.fulfill({ body: lines((sent - 1) * 100_000) });
  });
  const session = await page.context().newCDPSession(page);
  const heap = async () => {
    await session.send("HeapProfiler.collectGarbage");
    return (await session.send("Runtime.getHeapUsage")).usedSize;
  };
  await open("logs");
  const last = page.getByRole("log").locator(".line").last();
  await expect(last).toContainText("line 199999 ", { timeout: 30_000 });
  const before = await heap();
  allowed = 4;
  await expect(last).toContainText("line 399999 ", { timeout: 30_000 });
  expect((await heap()) / before).toBeLessThan(1.1);
});
