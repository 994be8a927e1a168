// A route that fails: each view says what, why and what to do, and goes on when it is tried again.
import type { Page } from "@playwright/test";
import { TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

const ERROR = { code: "io", message: "cannot read /home/ada/x: Permission denied", hint: "look at who owns it" };

interface Case {
  view: string;
  routes: string[];
  /** What is there when the routes answer. */
  well: (page: Page) => ReturnType<Page["locator"]>;
  button?: string;
  /** It has a stream that is opened again by itself, so that the button may be gone before anybody can press it. */
  heals?: boolean;
}

const CASES: Case[] = [
  { view: "models", routes: ["**/models"], well: (page) => page.locator("[data-model]").first() },
  {
    view: "gpu",
    routes: ["**/gpu", "**/events?gpu=1", "**/gpu/history"],
    // With or without a GPU.
    well: (page) => page.locator(".nothing, .device").first(),
    heals: true,
  },
  { view: "live", routes: ["**/live", "**/events?live=1"], well: (page) => page.locator(".tiles"), heals: true },
  {
    view: "logs",
    routes: ["**/logs?*"],
    well: (page) => page.locator(".log .line").first(),
    button: "Try now",
    heals: true,
  },
  { view: "usage", routes: ["**/usage?*"], well: (page) => page.locator(".nothing, table.usage").first() },
  {
    view: "settings",
    routes: ["**/settings", "**/catalog", "**/autostart"],
    well: (page) => page.getByLabel("Launch at login"),
  },
  {
    view: "settings/catalog",
    routes: ["**/catalog"],
    well: (page) => page.getByRole("textbox", { name: "models.toml" }),
  },
  { view: "health", routes: ["**/doctor"], well: (page) => page.locator(".finding").first() },
];

for (const { view, routes, well, button = "Try again", heals } of CASES) {
  test(`${view}: what fails is said, and tried again`, async ({ page, open, corral }) => {
    await corral.load("tiny");
    let answers = 0;
    for (const route of routes) {
      await page.route(route, (asked) => {
        answers += 1;
        return asked.fulfill({ status: 500, json: { error: ERROR } });
      });
    }
    await open(view);
    const card = page.locator(".view .problem, .view .strip.bad");
    await expect(card).toHaveCount(1);
    await expect(card).toContainText(ERROR.message);
    await expect(card).toContainText(ERROR.hint);
    await expect(well(page)).toHaveCount(0);
    const before = answers;
    await card.getByRole("button", { name: button }).click();
    await expect.poll(() => answers).toBeGreaterThan(before);
    await expect(card).toContainText(ERROR.message);
    for (const route of routes) await page.unroute(route);
    if (!heals) await card.getByRole("button", { name: button }).click();
    await expect(well(page)).toBeVisible();
    await expect(card).toHaveCount(0);
  });
}

test("an answer without a reason still says what to do", async ({ page, open }) => {
  await page.route("**/doctor", (route) => route.fulfill({ status: 500, body: "<html>" }));
  await open("health");
  const card = page.locator(".view .problem");
  await expect(card).toContainText("Corral answered with 500");
  await expect(card).toContainText("try again");
});

test("a list that cannot be read again stays, and that is said", async ({ page, open }) => {
  await open();
  await expect(page.locator("[data-model]").first()).toBeVisible();
  await page.route("**/models", (route) => route.fulfill({ status: 500, json: { error: ERROR } }));
  await page.evaluate(() => dispatchEvent(new Event("focus")));
  const strip = page.locator(".strip", { hasText: "The list may be old" });
  await expect(strip).toContainText(ERROR.message);
  await expect(page.locator("[data-model]").first()).toBeVisible();
  await page.unroute("**/models");
  await strip.getByRole("button", { name: "Read it again" }).click();
  await expect(strip).toBeHidden();
});

test("an action that fails interrupts, the rest waits its turn, and the focus is not lost", async ({
  page,
  open,
  corral,
}) => {
  await page.route("**/switch", (route) => route.fulfill({ status: 500, json: { error: ERROR } }));
  await corral.load("tiny");
  await open();
  const start = page.getByRole("button", { name: "Switch to Tiny, the other one" });
  await start.click();
  const toast = page.getByRole("alert").filter({ hasText: ERROR.message });
  await expect(toast).toContainText(ERROR.hint);
  await start.click();
  await expect(toast).toHaveCount(2);
  await toast.first().getByRole("button", { name: "Dismiss" }).focus();
  await page.keyboard.press("Enter");
  await expect(toast.getByRole("button", { name: "Dismiss" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1 })).toBeFocused();
  await page.keyboard.press("6");
  await page.getByLabel("Notifications").selectOption("None");
  await page.keyboard.press("Control+s");
  await expect(page.getByRole("status").filter({ hasText: "The settings are saved" })).toBeVisible();
});
