// Without a pointer: what matters most can be done by keys alone.
import type { Page } from "@playwright/test";
import { TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

/** Presses Tab until that has the focus, at most so often as there could be stops. */
async function tabTo(page: Page, target: ReturnType<Page["locator"]>) {
  for (let stop = 0; stop < 60; stop += 1) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error("Tab does not lead there");
}

test("a model is found, started and switched by keys alone", async ({ page, open, corral }) => {
  await open("models");
  await expect(page.locator('[data-model="tiny"]')).toBeVisible();
  await page.keyboard.press("/");
  await expect(page.getByRole("searchbox", { name: "Search models" })).toBeFocused();
  await page.keyboard.type("other one");
  await expect(page.locator("[data-model]")).toHaveCount(1);
  await page.keyboard.press("ArrowDown");
  const start = page.getByRole("button", { name: "Start Tiny, the other one" });
  await expect(start).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator(".state-box")).toContainText("Ready");
  expect((await corral.api("GET", "/status")).model).toBe("tiny-2");

  await page.keyboard.press("/");
  await page.keyboard.press("Escape");
  await expect(page.locator("[data-model]")).toHaveCount(2);
  await page.keyboard.press("ArrowDown");
  await expect(page.getByRole("button", { name: "Switch to Tiny", exact: true })).toBeFocused();
  await page.keyboard.press("Enter");
  // It is as tiny as the files are made: where Corral cannot tell whether it fits, nothing is asked.
  await expect.poll(async () => (await corral.api("GET", "/status")).model).toBe("tiny");
  await expect(page.locator(".state-box")).toContainText("Ready");
});

test("a view is changed and a session is ended by keys alone, and the focus is never lost", async ({
  page,
  open,
  corral,
}) => {
  await corral.load("tiny");
  await corral.api("POST", "/sessions", { label: "one" });
  await corral.api("POST", "/sessions", { label: "two" });
  await open("models");
  await tabTo(page, page.getByRole("link", { name: "Live", exact: true }));
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Live" })).toBeFocused();

  const end = page.getByRole("button", { name: "End the session one" });
  await expect(end).toBeVisible();
  await tabTo(page, end);
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await expect(dialog).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
  await expect(end).toBeFocused();
  await page.keyboard.press("Enter");
  await tabTo(page, dialog.getByRole("button", { name: "End the session" }));
  await page.keyboard.press("Enter");
  await expect(page.locator(".sessions tbody tr")).toHaveCount(1);
  const { sessions } = await corral.api("GET", "/status");
  expect(sessions.map((session: { label: string }) => session.label)).toEqual(["two"]);

  // A choice among a few: one stop for Tab, the arrows choose.
  await page.keyboard.press("5");
  await expect(page.getByRole("heading", { level: 1, name: "Usage" })).toBeFocused();
  const day = page.getByRole("radio", { name: "Day", exact: true });
  await tabTo(page, day);
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "Model", exact: true })).toBeChecked();
});
