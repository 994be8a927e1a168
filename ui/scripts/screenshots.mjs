// Makes a picture of every view in both themes: npm run screenshots -- OUTDIR
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

const out = resolve(process.argv[2] ?? "screenshots");
mkdirSync(out, { recursive: true });
const env = { ...process.env, CORRAL_SCREENSHOTS: out };
const run = spawnSync("npx", ["playwright", "test", "--config", "screenshots.config.ts"], { stdio: "inherit", env });
process.exit(run.status ?? 1);
