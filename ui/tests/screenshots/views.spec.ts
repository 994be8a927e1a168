// Pictures of every view, with what a real Corral says. What the machine lacks is put in at the port, and only that: the
// readings of a GPU.
import { join } from "node:path";
import type { Page } from "@playwright/test";
import type { ModelEntry } from "../e2e/corral";
import { expect, test } from "../e2e/dashboard";
import { gpuAtWork } from "../e2e/sample";

const out = process.env.CORRAL_SCREENSHOTS ?? "screenshots";
const VIEWS = ["models", "gpu", "live", "logs", "usage", "settings", "settings/catalog", "health"];

const entry = (id: string, name: string, file: string, description: string, more = ""): ModelEntry => ({
  id,
  name,
  file,
  lines: `description = ${JSON.stringify(description)}\n${more}`,
});
const MODELS = [
  entry(
    "glm-4-7-flash",
    "GLM 4.7 Flash",
    "GLM-4.7-Flash-Q4_K_M.gguf",
    "30B mixture of experts, 3B active: quick, and good with tools",
    "ctx = 8192\nparallel = 2\n",
  ),
  entry(
    "qwen3-coder-30b",
    "Qwen3 Coder 30B",
    "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf",
    "30B mixture of experts, 3B active: a coding agent for one GPU of 24 GB",
  ),
  entry("gpt-oss-20b", "gpt-oss 20B", "gpt-oss-20b-MXFP4.gguf", "21B mixture of experts, 4B active"),
  entry("devstral-small-2", "Devstral Small 2", "Devstral-Small-2-24B-UD-Q5_K_XL.gguf", "24B, dense"),
  { ...entry("qwen3-coder-next", "Qwen3 Coder Next", "Qwen3-Coder-Next-Q4_K_M.gguf", "80B, 3B active"), there: false },
];
test.use({ home: { models: MODELS } });

const PROMPT = "Write a haiku on fences, then another one";

/** Asks for a while, so that there is something to see. */
async function atWork(page: Page, ask: () => Promise<void>) {
  const end = Date.now() + 12_000;
  while (Date.now() < end) await ask();
  await expect(page.locator(".sessions .number").nth(4)).not.toHaveText("0");
}

async function picture(page: Page, view: string, name: string) {
  if (view === "settings/catalog") {
    const area = page.getByRole("textbox", { name: "models.toml" });
    await area.fill((await area.inputValue()).replace("parallel = 2", "paralel = 2"));
    await expect(page.locator(".marks .said").first()).toBeVisible();
  }
  await expect(page.locator(".loading-text")).toHaveCount(0);
  await page.screenshot({ path: join(out, `${name}.png`) });
}

test("every view in both themes, and in a narrow window", async ({ page, open, corral }) => {
  const { token } = await corral.api("POST", "/sessions", { label: "corral" });
  await corral.api("POST", "/sessions", { label: "notes" });
  await corral.load("qwen3-coder-30b");
  await corral.ask("qwen3-coder-30b", PROMPT, undefined, 200);
  await corral.load("glm-4-7-flash");
  await gpuAtWork(page, "glm-4-7-flash");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const view of VIEWS) {
      await open(view);
      if (view === "live") await atWork(page, () => corral.ask("glm-4-7-flash", PROMPT, token, 400, true));
      if (view === "gpu") await expect(page.locator(".device canvas").first()).toBeVisible();
      await picture(page, view, `${view.replace("/", "-")}-${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 720, height: 800 });
  await open("models");
  await picture(page, "models", "models-narrow");
});
