// What axe says of every view while it is full of data, and whether it would say anything at all.
import type { Page } from "@playwright/test";
import { type Corral, TWO } from "./corral";
import { expect, test, violations } from "./dashboard";
import { fits } from "./fits";
import { findings, gpuAtWork, logs, usage } from "./sample";

const more = ["three", "four", "five"].map((id) => ({ id, lines: `description = "The one called ${id}"\n` }));
test.use({ home: { models: [...TWO, ...more, { id: "gone", name: "Gone", there: false }] } });

interface Full {
  view: string;
  /** What is put in, before the view is opened. */
  before?: (page: Page, corral: Corral) => Promise<unknown>;
  /** Waits until all of it is there. */
  until: (page: Page) => Promise<unknown>;
}

const VIEWS: Full[] = [
  {
    view: "models",
    before: fits,
    until: async (page) => {
      for (const text of ["Fits", "20 layers on CPU", "8k context", "Too big", "File missing", "Ready"])
        await expect(page.getByRole("table", { name: "Models" })).toContainText(text);
      await page.getByRole("button", { name: "Why Gone cannot be started" }).click();
      await expect(page.locator(".toast")).toBeVisible();
    },
  },
  {
    view: "gpu",
    before: (page) => gpuAtWork(page, "tiny"),
    until: async (page) => {
      await expect(page.locator(".device canvas")).toHaveCount(4);
      await expect(page.getByRole("cell", { name: "gnome-shell" })).toBeVisible();
    },
  },
  {
    view: "live",
    before: async (_, corral) => {
      const { token } = await corral.api("POST", "/sessions", { label: "an editor" });
      await corral.ask("tiny", "hello", token);
    },
    until: async (page) => {
      await expect(page.locator("[data-session]").first()).toContainText("an editor");
      await expect(page.getByText("Slot 0")).toBeVisible();
    },
  },
  {
    view: "logs",
    before: (page) => logs(page),
    until: async (page) => {
      for (const level of ["debug", "info", "warn", "error"])
        await expect(page.locator(`.line.${level}`).first()).toBeVisible();
    },
  },
  {
    view: "usage",
    before: (page) => usage(page),
    until: async (page) => {
      await expect(page.locator("table.listing tbody tr")).toHaveCount(30);
      await expect(page.getByRole("columnheader", { name: "Cost" })).toBeVisible();
      await expect(page.locator(".chart canvas")).toBeVisible();
    },
  },
  {
    view: "settings",
    before: (page) =>
      page.route("**/settings", (route) =>
        route.request().method() === "PUT"
          ? route.fulfill({ status: 500, json: { error: { code: "io", message: "read only", hint: "mend it" } } })
          : route.fallback(),
      ),
    until: async (page) => {
      await page.getByLabel("Terminal").fill("xterm -e");
      await page.getByRole("button", { name: "Save" }).click();
      await expect(page.locator(".card.failed")).toContainText("mend it");
      await expect(page.getByText("Not saved yet")).toBeVisible();
    },
  },
  {
    view: "settings/catalog",
    until: async (page) => {
      const area = page.getByRole("textbox", { name: "models.toml" });
      await area.fill((await area.inputValue()).replace("ctx = 4096", 'ctx = "many"'));
      await expect(page.locator(".marks .said").first()).toBeVisible();
    },
  },
  {
    view: "health",
    before: (page) => findings(page),
    until: (page) => expect(page.locator(".finding.problem")).toHaveCount(2),
  },
];

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });
    for (const { view, before, until } of VIEWS) {
      test(`axe finds nothing in ${view}, full of data`, async ({ page, open, corral }) => {
        await corral.load("tiny");
        await before?.(page, corral);
        await open(view);
        await until(page);
        expect(await violations(page)).toEqual([]);
      });
    }

    test("axe finds nothing in what is said about a fit", async ({ page, open, corral }) => {
      await fits(page, corral);
      await open();
      await page.getByRole("button", { name: /^Too big/ }).click();
      await expect(page.getByRole("dialog")).toContainText("blender");
      expect(await violations(page)).toEqual([]);
    });

    test("axe finds what is wrong", async ({ page, open }) => {
      await open();
      await page.evaluate(() => {
        const card = document.createElement("div");
        card.innerHTML = '<p class="planted">hardly to be read</p><button></button><img src="./corral.svg">';
        document.querySelector(".view")?.append(card);
        const text = card.querySelector("p");
        if (text) text.style.color = "color-mix(in srgb, var(--page) 75%, var(--text))";
      });
      const found = await violations(page);
      for (const rule of ["color-contrast", "button-name", "image-alt"])
        expect(
          found.some((line) => line.startsWith(`${rule}:`)),
          `${rule} in ${found}`,
        ).toBe(true);
    });
  });
}
