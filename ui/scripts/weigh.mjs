// Fails where the built dashboard takes more than its budget: 120 KB, every file compressed by gzip.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const BUDGET = 120_000;
const folder = new URL("../dist/", import.meta.url).pathname;
let total = 0;
for (const name of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!name.isFile()) continue;
  const path = join(name.parentPath, name.name);
  const size = gzipSync(readFileSync(path), { level: 9 }).length;
  total += size;
  console.log(`${size.toString().padStart(8)}  ${path.slice(folder.length)}`);
}
console.log(`${total.toString().padStart(8)}  in all, of ${BUDGET}`);
if (total > BUDGET) {
  console.error("the dashboard has become too large");
  process.exit(1);
}
