import { readFileSync, writeFileSync } from "node:fs";
import { eventually, TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used.
test.use({ home: { models: [...TWO] } });

test("settings are written to where they belong, and comments stay", async ({ page, open, corral }) => {
  await open("settings");
  await page.getByLabel("When Corral ends").selectOption("Leave the model running");
  await page.getByLabel("Notifications").selectOption("Problems only");
  await page.getByLabel("Terminal").fill('xterm -T "a title" -e');
  await page.getByLabel("Price of a kilowatt-hour").fill("32 Cent zu viel");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("alert")).toContainText("0.32 EUR");
  await page.getByLabel("Price of a kilowatt-hour").fill("0.32 EUR");
  await page.getByLabel("May load another model").selectOption("Requests of sessions");
  // What is typed stays when the view is left.
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await page.getByRole("link", { name: "Settings", exact: true }).click();
  await expect(page.getByLabel("When Corral ends")).toHaveValue("keep");
  await page.keyboard.press("Control+s");
  await expect(page.getByText("The settings are saved")).toBeVisible();
  const settings = readFileSync(corral.settingsPath, "utf8");
  expect(settings).toContain('on_quit = "keep"');
  expect(settings).toContain('notifications = "problems"');
  expect(settings).toContain('electricity_price = "0.32 EUR"');
  expect(settings).toMatch(/terminal = \[\s*"xterm",\s*"-T",\s*"a title",\s*"-e"\s*\]/);
  const catalog = readFileSync(corral.catalogPath, "utf8");
  expect(catalog).toContain('auto_switch = "sessions"');
  expect(catalog).toContain("# no container is needed here");
  await expect(page.getByRole("button", { name: "Save" })).toBeDisabled();
});

test("models.toml: a mistake shows at its line, and saving puts it in force", async ({ page, open, corral }) => {
  await open("settings/catalog");
  const area = page.getByRole("textbox", { name: "models.toml" });
  const text = await area.inputValue();
  const broken = text.replace("ctx = 4096", 'ctx = "many"');
  await area.fill(broken);
  const line = broken.split("\n").findIndex((one) => one.startsWith("ctx")) + 1;
  await expect(page.locator(".gutter .marked").first()).toHaveText(`${line}`);
  await expect(page.locator(".marks .said").first()).toContainText("expected a whole number");
  await page
    .getByRole("button", { name: `Line ${line}` })
    .first()
    .click();
  await expect(area).toBeFocused();
  const at =
    broken
      .split("\n")
      .slice(0, line - 1)
      .join("\n").length + 1;
  expect(await area.evaluate((element: HTMLTextAreaElement) => element.selectionStart)).toBeGreaterThanOrEqual(at);

  await area.fill(text.replace('name = "Tiny"', 'name = "Tiny, renamed"'));
  await expect(page.getByText("No mistakes")).toBeVisible();
  await area.press("Control+s");
  await expect(page.getByText("models.toml is saved")).toBeVisible();
  expect(readFileSync(corral.catalogPath, "utf8")).toContain('name = "Tiny, renamed"');
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await expect(page.locator('[data-model="tiny"]')).toContainText("Tiny, renamed");
});

test("what can be no catalog is not written, and is not lost", async ({ page, open, corral }) => {
  await open("settings/catalog");
  const area = page.getByRole("textbox", { name: "models.toml" });
  await expect(area).toHaveValue(/schema/);
  const before = readFileSync(corral.catalogPath, "utf8");
  await area.fill("[[[ this is nothing");
  await area.press("Control+s");
  await expect(page.locator(".card.failed")).toContainText("catalog_invalid");
  await expect(area).toHaveValue("[[[ this is nothing");
  expect(readFileSync(corral.catalogPath, "utf8")).toBe(before);
});

test("a file that changed on disk meanwhile: both are shown, and mine can be kept", async ({ page, open, corral }) => {
  await open("settings/catalog");
  const area = page.getByRole("textbox", { name: "models.toml" });
  await expect(area).toHaveValue(/schema/);
  const text = await area.inputValue();
  await area.fill(`${text}\n# mine\n`);
  writeFileSync(corral.catalogPath, `# theirs\n${text}`);
  await eventually("Corral has read the file", async () =>
    (await corral.api("GET", "/catalog")).text.startsWith("# theirs"),
  );
  await page.getByRole("button", { name: "Save" }).click();
  const dialog = page.getByRole("dialog", { name: "models.toml has changed on disk meanwhile" });
  await expect(dialog.getByRole("region", { name: "Yours", exact: true })).toContainText("# mine");
  await expect(dialog.getByRole("region", { name: "On disk", exact: true }).locator(".changed")).toHaveText(/# theirs/);
  await dialog.getByRole("button", { name: "Go on editing" }).click();
  await expect(area).toHaveValue(/# mine/);
  await page.getByRole("button", { name: "Save" }).click();
  await dialog.getByRole("button", { name: "Save mine over it" }).click();
  await expect(page.getByText("models.toml is saved")).toBeVisible();
  const saved = readFileSync(corral.catalogPath, "utf8");
  expect([saved.includes("# mine"), saved.includes("# theirs")]).toEqual([true, false]);
});

test("what is typed and not saved does not go with the page unasked, in whatever view", async ({ page, open }) => {
  await open("settings/catalog");
  const area = page.getByRole("textbox", { name: "models.toml" });
  await expect(area).toHaveValue(/schema/);
  await area.press("Control+End");
  await page.keyboard.type("# not saved");
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Models" })).toBeVisible();
  const asked = page.waitForEvent("dialog");
  await page.close({ runBeforeUnload: true });
  const dialog = await asked;
  expect(dialog.type()).toBe("beforeunload");
  await dialog.dismiss();
  await page.getByRole("link", { name: "Settings", exact: true }).click();
  await page.getByRole("link", { name: "models.toml" }).click();
  await expect(area).toHaveValue(/# not saved$/);
  await page.getByRole("button", { name: "Discard" }).click();
  await expect(area).not.toHaveValue(/# not saved$/);
  // Without anything to lose it goes at once: the fixture would see a dialog as one that nobody answers.
  const closed = page.waitForEvent("close");
  await page.close({ runBeforeUnload: true });
  await closed;
});
