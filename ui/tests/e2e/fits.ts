// Verdicts of every kind, put in at the port: what machine the tests run on decides on others.
import type { Page } from "@playwright/test";
import type { Fit, Model } from "../../src/types";
import type { Corral } from "./corral";

const GIB = 2 ** 30;

const judged = (more: Partial<Fit>): Fit => ({
  verdict: "fits",
  vram_bytes: 17.9 * GIB,
  host_bytes: 0.6 * GIB,
  vram_reduced_bytes: null,
  host_reduced_bytes: null,
  ctx: 65_536,
  ctx_configured: 65_536,
  layers_on_cpu: 0,
  vram_free_bytes: 23.1 * GIB,
  host_free_bytes: 50 * GIB,
  in_the_way: [],
  hopeless: false,
  reason: "it needs 17.9 GiB of the 23.1 GiB that GPU 0 (RTX 4090) has free",
  ...more,
});

/** One of each kind. */
export const FITS: Fit[] = [
  judged({}),
  judged({
    verdict: "reduced",
    layers_on_cpu: 20,
    vram_bytes: 44.1 * GIB,
    vram_reduced_bytes: 22 * GIB,
    host_reduced_bytes: 27.6 * GIB,
    reason: "20 of its 49 layers have no room on GPU 0 (RTX 4090), which has 23.1 GiB free, and work on the CPU",
  }),
  judged({
    verdict: "reduced",
    ctx: 8192,
    vram_bytes: 29.3 * GIB,
    vram_reduced_bytes: 22.8 * GIB,
    host_reduced_bytes: 0.6 * GIB,
    in_the_way: [{ name: "gnome-shell", bytes: 0.4 * GIB }],
    reason: "with 64k of context it needs 29.3 GiB, and GPU 0 (RTX 4090) has 23.1 GiB free; with 8k it fits",
  }),
  judged({
    verdict: "no",
    vram_bytes: 44.9 * GIB,
    in_the_way: [
      { name: "blender (2231)", bytes: 9.2 * GIB },
      { name: "gnome-shell", bytes: 0.4 * GIB },
    ],
    hopeless: true,
    reason: "it needs 44.9 GiB, and GPU 0 (RTX 4090) has 13.9 GiB free of its 24.0 GiB",
  }),
];

/** Gives the models of the real list these verdicts in turn. */
export async function fits(page: Page, corral: Corral, verdicts: (Fit | null)[] = FITS): Promise<void> {
  await page.route("**/models", async (route) => {
    const { models } = (await corral.api("GET", "/models")) as { models: Model[] };
    const json = models.map((model, at) => ({ ...model, fit: verdicts[at % verdicts.length] }));
    await route.fulfill({ json: { models: json } });
  });
}
