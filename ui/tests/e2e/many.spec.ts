import type { ModelEntry } from "./corral";
import { expect, test } from "./dashboard";
import { fits } from "./fits";

const long =
  "A model whose name is so long that it cannot be shown whole in any window, with-a-word-that-cannot-be-broken-anywhere";
const many: ModelEntry[] = Array.from({ length: 1000 }, (_, number) => ({
  id: `model-${number}`,
  name: number === 3 ? long : `Model ${number}`,
  file: "tiny-Q4_0.gguf",
}));
test.use({ home: { models: many } });

test("1,000 models: few are drawn, keys go through all, the search is quick", async ({ page, open }) => {
  await open();
  await expect(page.locator("[data-model]").first()).toBeVisible();
  expect(await page.locator("[data-model]").count()).toBeLessThan(40);
  await page.getByRole("button", { name: "Start Model 0", exact: true }).focus();
  await page.keyboard.press("End");
  await expect(page.getByRole("button", { name: "Start Model 999", exact: true })).toBeFocused();
  await page.keyboard.press("ArrowUp");
  await expect(page.getByRole("button", { name: "Start Model 998", exact: true })).toBeFocused();
  await page.keyboard.press("Home");
  await expect(page.getByRole("button", { name: "Start Model 0", exact: true })).toBeFocused();
  await page.getByRole("searchbox").fill("model 777");
  await expect(page.locator("[data-model]")).toHaveCount(1);
});

test("1,000 verdicts: only those in sight are drawn, and keys go through all", async ({ page, open, corral }) => {
  // A fake at the port: a machine on which models of every kind are.
  await fits(page, corral);
  await open();
  await expect(page.locator(".fit-mark").first()).toBeVisible();
  const body = page.getByRole("table", { name: "Models" }).locator(".body");
  const seen = await body.evaluate(async (box) => {
    let most = 0;
    for (let step = 0; step <= 40; step += 1) {
      box.scrollTop = (box.scrollHeight * step) / 40;
      await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      most = Math.max(most, box.querySelectorAll(".fit-mark").length);
    }
    return most;
  });
  expect(seen).toBeGreaterThan(5);
  expect(seen).toBeLessThan(40);
  await body.evaluate((box) => box.scrollTo(0, 0));
  await page.getByRole("button", { name: "Start Model 0", exact: true }).focus();
  await page.keyboard.press("End");
  await expect(page.getByRole("button", { name: "Start Model 999", exact: true })).toBeFocused();
  // What is said about the fit of a row is one Tab before its action.
  await page.keyboard.press("Shift+Tab");
  await expect(page.getByRole("button", { name: "Too big: how Model 999 fits" })).toBeFocused();
});

test("long names do not make the page wider than the window", async ({ page, open }) => {
  await page.setViewportSize({ width: 640, height: 800 });
  await open();
  await expect(page.getByText("so long that").first()).toBeVisible();
  expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
});
