// What the tests of all views share: a Corral (a file that says `test.use` has one of its own), a page per test, and axe.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test as base, expect, type Page } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { Corral, type ModelEntry, TWO } from "./corral";

export { expect };

interface Shared {
  /** What the file's Corral has; set with `test.use`. */
  home: { models: ModelEntry[] };
  corral: Corral;
}

interface Each {
  /** Opens a view with the token, as `corral dashboard` does. */
  open: (view?: string) => Promise<void>;
}

export const test = base.extend<Each, Shared>({
  home: [{ models: TWO }, { option: true, scope: "worker" }],
  corral: [
    async ({ home }, use) => {
      const corral = await Corral.start(home.models);
      await use(corral);
      await corral.drop();
    },
    { scope: "worker", timeout: 60_000 },
  ],
  open: async ({ page, corral }, use) => {
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (line) => /Content.Security.Policy/i.test(line.text()) && errors.push(line.text()));
    await use(async (view = "models") => {
      // From another page, so that the address with its token is loaded and not only moved to.
      await page.goto("about:blank");
      await page.goto(await corral.url(view));
      await page.getByRole("navigation", { name: "Views" }).waitFor();
    });
    expect(errors, "nothing is thrown, and nothing is against the policy").toEqual([]);
  },
});

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds against WCAG 2.2 AA and its best practices, as short lines. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const results = await page.evaluate(() => (window as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run());
  return results.violations.flatMap((violation) =>
    violation.nodes.map((node) => `${violation.id}: ${node.target.join(" ")} ${node.failureSummary ?? ""}`),
  );
}
