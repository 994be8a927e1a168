import { VIEWS } from "../../src/lib/route";
import { expect, test, violations } from "./dashboard";
import { fits } from "./fits";
import { findings, gpuAtWork, usage } from "./sample";

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });
    test("axe finds nothing in dialogs, banners and the page outside", async ({ page, open }) => {
      await open("models");
      await page.keyboard.press("?");
      await expect(page.getByRole("dialog")).toBeVisible();
      expect(await violations(page)).toEqual([]);
      await page.keyboard.press("Escape");
      await page.route("**/events", (route) => route.abort());
      await page.reload();
      await expect(page.getByRole("alert")).toBeVisible();
      expect(await violations(page)).toEqual([]);
      await page.evaluate(() => sessionStorage.clear());
      await page.unroute("**/events");
      await page.reload();
      await expect(page.getByText("corral dashboard", { exact: true })).toBeVisible();
      expect(await violations(page)).toEqual([]);
    });
  });
}

test("the token leaves the address, and a page that is loaded again still has it", async ({ page, open, corral }) => {
  await open("live");
  expect(page.url()).not.toContain(corral.token);
  await page.reload();
  await expect(page.getByRole("heading", { level: 1, name: "Live" })).toBeVisible();
});

test("a wrong token leads to a page that says how to come in", async ({ page, corral }) => {
  await page.goto(await corral.url("models", "wrong"));
  await expect(page.getByText("corral dashboard", { exact: true })).toBeVisible();
});

test("the keyboard alone is enough", async ({ page, open }) => {
  await open();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1 })).toBeFocused();
  for (const [index, view] of VIEWS.entries()) {
    await page.keyboard.press(`${index + 1}`);
    await expect(page).toHaveURL(new RegExp(`#${view}$`));
    await expect(page.getByRole("heading", { level: 1 })).toBeFocused();
  }
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await expect(dialog).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
});

test("Tab goes through a view as it is read, and a list is one stop of it", async ({ page, open, corral }) => {
  await corral.load("tiny");
  await fits(page, corral);
  await open("models");
  await expect(page.locator(".fit-mark").first()).toBeVisible();
  await page.getByRole("heading", { level: 1 }).focus();
  const stops = [
    page.getByRole("searchbox", { name: "Search models" }),
    page.locator(".loaded").getByRole("button", { name: "Stop" }),
    page.getByRole("button", { name: "Fits: how Tiny fits" }),
    page.getByRole("table").getByRole("button", { name: "Stop Tiny", exact: true }),
  ];
  for (const stop of stops) {
    await page.keyboard.press("Tab");
    await expect(stop).toBeFocused();
  }
  await page.keyboard.press("ArrowDown");
  await expect(page.getByRole("button", { name: "Switch to Tiny, the other one" })).toBeFocused();
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.closest("[data-row]"))).toBeNull();
});

test("text of twice the size and small windows: nothing is cut off sideways", async ({ page, open, corral }) => {
  await fits(page, corral);
  await gpuAtWork(page, "tiny");
  await findings(page);
  await usage(page);
  for (const [width, size] of [
    [480, "100%"],
    [640, "100%"],
    [1280, "200%"],
  ] as const) {
    await page.setViewportSize({ width, height: 800 });
    for (const view of VIEWS) {
      await open(view);
      await page.evaluate((value) => document.documentElement.style.setProperty("font-size", value), size);
      await expect(page.locator(".loading-text")).toHaveCount(0);
      if (view === "gpu") await expect(page.locator(".device canvas").first()).toBeVisible();
      /** Of the page, of the view, and of each card in it: how much of it is beyond its edge. */
      const wide = await page.evaluate(() =>
        [document.documentElement, ...document.querySelectorAll("main, .card")].map(
          (box) => box.scrollWidth - box.clientWidth,
        ),
      );
      expect(Math.max(...wide), `${view} at ${width}, ${size}`).toBeLessThanOrEqual(0);
    }
  }
});

test("the daemon ends and comes back with another key", async ({ page, open, corral }) => {
  await corral.load("tiny");
  await open("live");
  await expect(page.locator(".state-box")).toContainText("Ready");
  await corral.end();
  const banner = page.getByRole("alert");
  await expect(banner).toContainText("Corral does not answer");
  await page.getByRole("button", { name: "Try now" }).click();
  await expect(banner).toContainText("Corral does not answer");
  await corral.serve();
  // The page finds out by itself that its key is not taken any more, and says how to come in.
  await expect(page.getByText("corral dashboard", { exact: true })).toBeVisible();
  await expect(banner).toBeHidden();
  // What that command opens may be opened in this very tab.
  const address = await corral.url("live");
  await page.evaluate((to) => location.assign(to), address);
  await expect(page.getByRole("heading", { level: 1, name: "Live" })).toBeVisible();
  await expect(page.locator(".state-box")).toContainText("Stopped");
  await corral.load("tiny-2");
  await expect(page.locator(".state-box")).toContainText("Ready");
});

test("a daemon that is out of reach for a while is found again without a click", async ({ page, open, corral }) => {
  await corral.api("POST", "/stop", { wait: true });
  await open();
  await expect(page.locator(".state-box")).toContainText("Stopped");
  // A fake at the port: the way there is cut, the daemon goes on.
  await page.route(/\/(events|models)/, (route) => route.abort());
  await page.reload();
  const banner = page.getByRole("alert");
  await expect(banner).toContainText("Corral does not answer");
  await corral.load("tiny");
  await page.unroute(/\/(events|models)/);
  await expect(banner).toBeHidden();
  await expect(page.locator(".state-box")).toContainText("Ready");
  await expect(page.locator('[data-model="tiny"]')).toContainText("Ready");
});

test("whoever wants less motion gets none", async ({ page, open, corral }) => {
  const operation = { id: "op", kind: "start", from: null, to: "tiny", step: "load", progress: null };
  const started = { started_at: new Date().toISOString(), expected_ms: null };
  const status = await corral.api("GET", "/status");
  const snapshot = { ...status, phase: "loading", model: "tiny", operation: { ...operation, ...started } };
  // A fake at the port: so small a model is loaded before anything can move.
  await page.route("**/events", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: `event: snapshot\ndata: ${JSON.stringify(snapshot)}\n\n` }),
  );
  const moving = async () => {
    await open();
    await expect(page.locator(".bar.endless").first()).toBeVisible();
    const names = (selector: string) =>
      page
        .locator(selector)
        .first()
        .evaluate((element) => getComputedStyle(element).animationName);
    const running = await page.evaluate(() => document.getAnimations().length > 0);
    return { dot: await names(".dot.loading"), bar: await names(".bar.endless > div"), running };
  };
  await page.emulateMedia({ reducedMotion: "no-preference" });
  expect(await moving()).toEqual({ dot: "breathe", bar: "slide", running: true });
  await page.emulateMedia({ reducedMotion: "reduce" });
  expect(await moving()).toEqual({ dot: "none", bar: "none", running: false });
});

test("what a session has left in quarantine is said, and stays until it is dismissed", async ({
  page,
  open,
  corral,
}) => {
  await page.clock.install();
  await open();
  corral.jail("echo run-me >.envrc");
  const toast = page.locator(".toast", { hasText: "ended with files in quarantine" });
  await expect(toast).toContainText("1 file was moved out of");
  await expect(toast).toContainText("look at each before you bring it back");
  await page.clock.fastForward(60_000);
  await expect(toast).toBeVisible();
  await toast.getByRole("button", { name: "Dismiss" }).click();
  await expect(toast).toBeHidden();
});
