import type { Page } from "@playwright/test";
import { expect, test } from "./dashboard";

interface Told {
  level: "info" | "warning" | "error";
  message: string;
}

const at = "2026-11-21T08:00:00Z";

/** The page's events, or those of a view, with what is told in them: a fake at the port, since nothing has to happen for it. */
async function tell(page: Page, streams: string, status: object, ...told: Told[]) {
  const events = told.map((one) => `event: notice\ndata: ${JSON.stringify({ at, error: null, ...one })}\n\n`);
  const body = `event: snapshot\ndata: ${JSON.stringify(status)}\n\n${events.join("")}`;
  await page.route(streams, (route) => route.fulfill({ contentType: "text/event-stream", body }));
}

const ASKS = "This desktop shows no tray icons: install the extension AppIndicator, then log in again";

test("what asks for something to be done stays until it is dismissed; plain information goes", async ({
  page,
  open,
  corral,
}) => {
  const status = await corral.api("GET", "/status");
  await tell(page, "**/events", status, { level: "info", message: "all is well" }, { level: "warning", message: ASKS });
  await page.clock.install();
  await open();
  const information = page.locator(".toast", { hasText: "all is well" });
  const asks = page.locator(".toast", { hasText: ASKS });
  await expect(information).toBeVisible();
  await expect(asks).toBeVisible();
  await page.clock.fastForward(7_000);
  await expect(information).toBeHidden();
  await page.clock.fastForward(600_000);
  await expect(asks).toBeVisible();
  await asks.getByRole("button", { name: "Dismiss" }).click();
  await expect(asks).toBeHidden();
});

test("a notice that comes with a view's readings only is shown; one that comes with both, once", async ({
  page,
  open,
  corral,
}) => {
  const status = await corral.api("GET", "/status");
  const crash: Told = { level: "error", message: "the page broke and was loaded anew" };
  await tell(page, "**/events?gpu=1", status, crash);
  await tell(page, "**/events?live=1", status, crash, { level: "error", message: "said of late" });
  await open("gpu");
  await expect(page.getByRole("alert")).toHaveText(/the page broke and was loaded anew/);
  await page.getByRole("link", { name: "Live", exact: true }).click();
  await expect(page.getByRole("alert")).toHaveCount(2);
  await expect(page.getByRole("alert").last()).toContainText("said of late");
});
