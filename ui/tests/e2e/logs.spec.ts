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
  ways = "real";
  await expect(log).toContainText("model loaded");
  await expect(strip).toBeHidden();
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
