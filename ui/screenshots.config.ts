import base from "./playwright.config";

/** The pictures are made by the runner of the tests, on the same real Corral. */
export default { ...base, testDir: "tests/screenshots", workers: 1, timeout: 180_000 };
