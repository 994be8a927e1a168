import { readFileSync, writeFileSync } from "node:fs";
import { TWO } from "./corral";
import { expect, test } from "./dashboard";
import { FITS, fits } from "./fits";

test.use({ home: { models: [...TWO, { id: "gone", name: "Gone", file: "gone-Q8_0.gguf", there: false }] } });
const row = (id: string) => `[data-model="${id}"]`;

test("the list has what is known of each model", async ({ page, open }) => {
  await open();
  await expect(page.locator(row("tiny"))).toContainText("Q4_K_M");
  await expect(page.locator(row("tiny-2"))).toContainText("F16");
  await expect(page.locator(row("tiny"))).toContainText("4k");
  await expect(page.locator(row("gone"))).toContainText("File missing");
  await page.locator(row("gone")).getByRole("button").click();
  await expect(page.getByRole("region", { name: "Notices" })).toContainText("gone-Q8_0.gguf");
});

test("a model is started, switched and stopped, and the real server is asked whether it is so", async ({
  page,
  open,
  corral,
}) => {
  await open();
  await page.getByRole("button", { name: "Start Tiny", exact: true }).click();
  await expect(page.locator(row("tiny"))).toContainText("Ready");
  expect((await corral.api("GET", "/status")).model).toBe("tiny");

  await page.getByRole("button", { name: "Switch to Tiny, the other one" }).click();
  await expect(page.locator(row("tiny-2"))).toContainText("Ready");
  await expect(page.locator(row("tiny"))).not.toContainText("Ready");
  await expect(page.locator(".state-box")).toContainText("Tiny, the other one");
  const status = await corral.api("GET", "/status");
  expect([status.model, status.phase]).toEqual(["tiny-2", "ready"]);
  const key = await corral.serverKey();
  const props = await fetch(`${status.engine.url}/props`, { headers: { Authorization: `Bearer ${key}` } });
  expect((await props.json()).model_path).toContain("tiny-2-F16.gguf");

  await page.getByRole("button", { name: "Stop Tiny, the other one" }).click();
  await expect(page.locator(".state-box")).toContainText("Stopped");
  expect((await corral.api("GET", "/status")).phase).toBe("stopped");
});

test("a catalog that was changed by another program is shown at once", async ({ page, open, corral }) => {
  await open();
  await expect(page.locator(row("tiny"))).toContainText("Tiny");
  const text = readFileSync(corral.catalogPath, "utf8");
  writeFileSync(corral.catalogPath, text.replace('name = "Tiny"', 'name = "Named elsewhere"'));
  await expect(page.locator(row("tiny"))).toContainText("Named elsewhere", { timeout: 5000 });
  writeFileSync(corral.catalogPath, text);
  await expect(page.locator(row("tiny"))).not.toContainText("Named elsewhere", { timeout: 5000 });
});

test("an operation shows its step and what is left", async ({ page, open, corral }) => {
  await open();
  // A fake at the port: a real switch between such small models is over before it can be read.
  const operation = {
    id: "op",
    kind: "switch",
    from: "tiny",
    to: "tiny-2",
    step: "load",
    progress: null,
    started_at: new Date(Date.now() - 4000).toISOString(),
    expected_ms: 60_000,
  };
  const snapshot = { ...(await corral.api("GET", "/status")), phase: "loading", model: "tiny-2", operation };
  await page.route("**/events", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: `event: snapshot\ndata: ${JSON.stringify(snapshot)}\n\n` }),
  );
  await page.reload();
  const card = page.locator("[data-operation]");
  await expect(card).toContainText("Switching from Tiny to Tiny, the other one");
  await expect(card).toContainText("Loading the model");
  await expect(card).toContainText(/about 5\d s left/);
  await expect(card.getByRole("progressbar")).toHaveAttribute("aria-valuenow", /^\d$|^1\d$/);
});

test("a switch that would surely fail is asked about first", async ({ page, open }) => {
  await open();
  await page.route("**/switch", (route) =>
    route.fulfill({
      json: {
        plan: {
          from: "tiny",
          to: "tiny-2",
          already_loaded: false,
          sessions: 1,
          requests_running: 2,
          problem: { code: "model_file_truncated", message: "the file ends too early", hint: "fetch it again" },
        },
      },
    }),
  );
  await page.getByRole("button", { name: "Start Tiny", exact: true }).click();
  await page.getByRole("button", { name: "Switch to Tiny, the other one" }).click();
  const dialog = page.getByRole("dialog", { name: "Switch to Tiny, the other one?" });
  await expect(dialog).toContainText("2 requests are being answered");
  await expect(dialog).toContainText("fetch it again");
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
  await expect(page.getByRole("button", { name: "Switch to Tiny, the other one" })).toBeFocused();
});

test("how a model fits is said in words, and why in a dialog that keys open", async ({ page, open, corral }) => {
  // A fake at the port: a machine on which models of every kind are.
  await fits(page, corral, [FITS[2], FITS[3]]);
  await open();
  await expect(page.locator(row("tiny"))).toContainText("8k context");
  await expect(page.locator(row("tiny-2"))).toContainText("Too big");
  const mark = page.locator(row("tiny")).getByRole("button", { name: /^8k context/ });
  await mark.focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Tiny" });
  await expect(dialog).toContainText(FITS[2].reason ?? "");
  const needed = "29.3 GiB needed of 23.1 GiB that can be had, 22.8 GiB when reduced";
  for (const fact of ["8,192 tokens of the 65,536", needed, "gnome-shell has 410 MiB"])
    await expect(dialog).toContainText(fact);
  await page.keyboard.press("Escape");
  await expect(mark).toBeFocused();
});

test("what does not fit is refused with what it needs, and can be loaded all the same", async ({
  page,
  open,
  corral,
}) => {
  await corral.api("POST", "/stop", { wait: true });
  // A fake at the port: the refusal of a Corral on a machine with less memory.
  await fits(page, corral, [FITS[3]]);
  const asked: Record<string, unknown>[] = [];
  await page.route("**/switch", (route) => {
    const body = route.request().postDataJSON();
    asked.push(body);
    const problem = {
      code: "insufficient_memory",
      message: `\`tiny\` does not fit into the memory there is: ${FITS[3].reason}`,
      hint: "end blender (2231); a smaller `ctx` needs less",
    };
    const plan = { from: null, to: "tiny", already_loaded: false, sessions: 0, requests_running: 0, problem };
    return body.dry_run ? route.fulfill({ json: { plan } }) : route.fulfill({ status: 202, json: { operation: {} } });
  });
  await open();
  await page.getByRole("button", { name: "Start Tiny", exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Start Tiny?" });
  await expect(dialog).toContainText("it needs 44.9 GiB");
  await expect(dialog).toContainText("end blender");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  expect(asked.map((body) => body.dry_run)).toEqual([true]);
  await page.getByRole("button", { name: "Start Tiny", exact: true }).click();
  await dialog.getByRole("button", { name: "Start anyway" }).click();
  await expect(dialog).toBeHidden();
  await expect.poll(() => asked.at(-1)).toMatchObject({ model: "tiny", dry_run: false, force: true });
});

test("the search leaves what matches, and Escape empties it", async ({ page, open }) => {
  await open();
  await page.keyboard.press("/");
  await page.keyboard.type("other f16");
  await expect(page.locator("[data-model]")).toHaveCount(1);
  await page.keyboard.type(" nothing");
  await expect(page.getByText("No model matches")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.locator("[data-model]")).toHaveCount(3);
});
