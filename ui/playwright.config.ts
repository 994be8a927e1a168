import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests/e2e",
  // Each file has a Corral of its own; more than two at once would only make each other slow.
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 15_000 },
  reporter: [["list"]],
  forbidOnly: !!process.env.CI,
  use: {
    viewport: { width: 1280, height: 800 },
    permissions: ["clipboard-read", "clipboard-write"],
    trace: "off",
    launchOptions: {
      executablePath: process.env.CORRAL_TEST_CHROMIUM ?? "/usr/bin/chromium",
      // As root Chromium has no sandbox of its own; the pages are ours.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
  },
});
