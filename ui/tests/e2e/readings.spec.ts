// What the live view tells, against what was asked and what the real server has answered.
import type { Page } from "@playwright/test";
import { type Corral, TWO } from "./corral";
import { expect, test } from "./dashboard";

// A Corral that no other file has used: its cache share is that of these requests alone.
test.use({ home: { models: [...TWO] } });

interface Used {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
}

/** Asks by the gateway and answers what the server says that it took. */
async function used(corral: Corral, model: string, prompt: string, tokens: number): Promise<Used> {
  const { gateway } = await corral.api("GET", "/status");
  const answer = await fetch(`${gateway}/v1/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, max_tokens: tokens, messages: [{ role: "user", content: prompt }] }),
  });
  if (!answer.ok) throw new Error(`the gateway answers ${answer.status}: ${await answer.text()}`);
  return ((await answer.json()) as { usage: Used }).usage;
}

/** The number of a tile. */
const tile = (page: Page, name: string) =>
  page
    .locator(".tile")
    .filter({ has: page.getByText(name, { exact: true }) })
    .locator("strong");

test("context in use and the share out of the cache are those of what was sent", async ({ page, open, corral }) => {
  await corral.load("tiny");
  await open("live");
  await expect(tile(page, "Prompts out of the cache")).toHaveText("–");
  const prompt = "a long tale of fences, gates and horses ".repeat(12);
  const asked = [await used(corral, "tiny", prompt, 8), await used(corral, "tiny", prompt, 8)];
  const cached = asked.map((one) => one.prompt_tokens_details?.cached_tokens ?? 0);
  expect([cached[0], cached[1] > asked[1].prompt_tokens / 2], "the second is read out of the cache").toEqual([0, true]);
  const prompts = asked[0].prompt_tokens + asked[1].prompt_tokens;
  const share = Math.round((100 * (cached[0] + cached[1])) / prompts);
  await expect(tile(page, "Prompts out of the cache")).toHaveText(`${share} %`);

  // The token that was generated last need not be in the cache yet.
  const all = asked[1].prompt_tokens + asked[1].completion_tokens;
  const slot = page.locator(".slots li").first().locator(".number");
  await expect(slot).toHaveText(new RegExp(`^(${all}|${all - 1}) of 4,096$`));
  const bar = page.getByRole("progressbar", { name: "Context in use in slot 0" });
  await expect(bar).toHaveAttribute("aria-valuenow", `${Math.round((100 * all) / 4096)}`);
});

test("requests that wait for another model are counted as waiting, and those that run as running", async ({
  page,
  open,
  corral,
}) => {
  await corral.load("tiny");
  await open("live");
  await expect(tile(page, "Running")).toHaveText("0");
  await expect(tile(page, "Waiting")).toHaveText("0");
  // One slot answers them one after the other; what asks for the other model waits until all of them are done.
  const running = Array.from({ length: 12 }, () => corral.ask("tiny", "go on and on", undefined, 2_500));
  await expect.poll(async () => (await corral.api("GET", "/live")).requests.running).toBeGreaterThan(0);
  const waiting = Array.from({ length: 3 }, () => corral.ask("tiny-2", "hello", undefined, 4));
  await expect(tile(page, "Waiting")).toHaveText("3");
  const others = Number(await tile(page, "Running").textContent());
  expect(others).toBeGreaterThan(0);
  expect(others).toBeLessThanOrEqual(12);
  await Promise.all([...running, ...waiting]);
  await expect(tile(page, "Waiting")).toHaveText("0");
  await expect(tile(page, "Running")).toHaveText("0");
});

test("tokens per second are those that arrive", async ({ page, open, corral }) => {
  await corral.load("tiny");
  await open("live");
  await expect(tile(page, "Generated")).toHaveText("0.0");
  let tokens = 0;
  let isOver = false;
  const begun = Date.now();
  const asking = (async () => {
    while (!isOver) tokens += (await used(corral, "tiny", "go on", 256)).completion_tokens;
  })();
  const seen: number[] = [];
  // The first readings look back to where nothing was asked.
  await expect(async () => {
    const text = (await tile(page, "Generated").textContent()) ?? "";
    const now = Number(text.replaceAll(",", ""));
    if (now > 0 && now !== seen.at(-1)) seen.push(now);
    expect(seen.length).toBeGreaterThan(4);
  }).toPass();
  isOver = true;
  await asking;
  const rate = (1000 * tokens) / (Date.now() - begun);
  const told = seen.slice(2).sort((a, b) => a - b)[Math.floor((seen.length - 2) / 2)];
  // A busy machine is not even: half and twice would be another unit or another count.
  expect(told / rate).toBeGreaterThan(0.5);
  expect(told / rate).toBeLessThan(2);
  await expect(tile(page, "Generated")).toHaveText("0.0");
});
