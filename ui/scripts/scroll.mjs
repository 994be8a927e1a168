// How long each frame takes while the log is scrolled through, with 1,000 lines in it and with 100,000, in turns:
// node scripts/scroll.mjs ADDRESS ROUNDS, where ADDRESS is the log's, with the token. Prints the milliseconds as JSON.
import { chromium } from "@playwright/test";

const [address, rounds] = [process.argv[2], Number(process.argv[3] ?? 5)];
const START = Date.parse("2026-11-21T12:00:00Z");
const STEPS = 120;

// How long anything may take before it is given up, in milliseconds.
const PATIENCE = 120_000;

// A stand-in at the port: a real server would take long to say so much.
function lines(count) {
  const record = (number) => ({
    ts: new Date(START + number).toISOString(),
    level: number % 50 ? "info" : "warn",
    model: "a",
    msg: `slot update_slots: id  0 | task ${number} | prompt processing progress, n_tokens = ${number % 4096}`,
  });
  return Array.from({ length: count }, (_, number) => `${JSON.stringify(record(number))}\n`).join("");
}

const browser = await chromium.launch({
  timeout: PATIENCE,
  executablePath: process.env.CORRAL_TEST_CHROMIUM ?? "/usr/bin/chromium",
  // Frames come as fast as they are made, or every one that is made in time would take a sixtieth of a second.
  args: ["--disable-frame-rate-limit", "--disable-gpu-vsync", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
});

async function scrolled(count) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  // Once only: what comes again after the stream's end is known already, and reading it would be measured as well.
  let answered = false;
  await page.route("**/logs?*", (route) => {
    if (answered) return;
    answered = true;
    return route.fulfill({ body: lines(count) });
  });
  page.setDefaultTimeout(PATIENCE);
  await page.goto(address);
  const log = page.getByRole("log");
  await log.getByText(`task ${count - 1} `).waitFor();
  const frames = await log.evaluate(async (box, steps) => {
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    const took = [];
    let last = await frame();
    for (let step = 0; step <= steps; step += 1) {
      box.scrollTop = (box.scrollHeight * step) / steps;
      const now = await frame();
      took.push(now - last);
      last = now;
    }
    return took;
  }, STEPS);
  await page.close();
  return frames;
}

const frames = { 1000: [], 100000: [] };
for (let round = 0; round <= rounds; round += 1) {
  for (const count of Object.keys(frames)) {
    const took = await scrolled(Number(count));
    // One of each is not counted: the browser warms up.
    if (round > 0) frames[count].push(...took);
  }
}
await browser.close();
console.log(JSON.stringify(frames));
