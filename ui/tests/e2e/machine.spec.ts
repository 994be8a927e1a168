// What decides how models are run and launched: changed in the page, found where it belongs.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used: none of its models is found afterwards.
test.use({ home: { models: [...TWO] } });

test("launch at login writes an entry into this home, and takes it away again", async ({ page, open, corral }) => {
  const { path, command } = await corral.api("GET", "/autostart");
  expect(path.startsWith(corral.home), "the tests never write into the home of who runs them").toBe(true);
  // The programs of a build lie beside each other; where the tray is not built there is nothing to launch.
  expect(command, "cargo build --workspace brings corral-tray").toContain("corral-tray");
  expect(existsSync(path)).toBe(false);
  await open("settings");
  const login = page.getByRole("switch", { name: "Launch at login" });
  await expect(login).not.toBeChecked();
  await login.click();
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The settings are saved")).toBeVisible();
  expect(readFileSync(path, "utf8")).toMatch(/^\[Desktop Entry\]\n(.*\n)*Exec=.*corral-tray/);
  expect((await corral.api("GET", "/autostart")).enabled).toBe(true);

  await page.reload();
  await expect(login).toBeChecked();
  await login.click();
  await page.keyboard.press("Control+s");
  await expect.poll(() => existsSync(path)).toBe(false);
  await expect(login).not.toBeChecked();
});

test("load the last model at launch is kept in settings.toml", async ({ page, open, corral }) => {
  await open("settings");
  const last = page.getByRole("switch", { name: "Load the last model at launch" });
  const before = await last.isChecked();
  await last.click();
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The settings are saved")).toBeVisible();
  expect(readFileSync(corral.settingsPath, "utf8")).toContain(`restore_last = ${!before}`);
  await page.reload();
  await expect(last).toBeChecked({ checked: !before });
});

test("engine, image and models folder go into models.toml, comments stay, and they are in force", async ({
  page,
  open,
  corral,
}) => {
  const folder = join(corral.home, "elsewhere");
  mkdirSync(folder);
  await open("settings");
  await expect(page.getByLabel("Program")).toHaveValue(/llama-server/);
  await page.getByLabel("Engine").selectOption("Docker container");
  await page.getByLabel("Image").fill("registry.example/llama:server");
  await page.getByLabel("Models folder").fill(folder);
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The settings are saved")).toBeVisible();
  const catalog = readFileSync(corral.catalogPath, "utf8");
  expect(catalog).toMatch(/^runtime = "docker" {3}# no container is needed here$/m);
  expect(catalog).toContain('image = "registry.example/llama:server"');
  expect(catalog).toContain(`models_dir = ${JSON.stringify(folder)}`);
  await page.reload();
  await expect(page.getByLabel("Image")).toHaveValue("registry.example/llama:server");
  await expect(page.getByLabel("Models folder")).toHaveValue(folder);
  await expect(page.getByLabel("Engine")).toHaveValue("docker");
  // There are no models in that folder.
  await eventually("the models are looked for elsewhere", async () => {
    const { models } = await corral.api("GET", "/models");
    return models.every((model: { problem?: { code: string } | null }) => model.problem);
  });
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await expect(page.getByRole("button", { name: "Why Tiny cannot be started" })).toBeVisible();
});
