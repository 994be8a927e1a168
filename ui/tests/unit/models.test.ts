import { expect, test } from "vitest";
import { fitMark, isTooBig } from "../../src/lib/fit";
import { actionFor, findModels, stateOf } from "../../src/lib/models";
import { progress, stepName, title } from "../../src/lib/operation";
import { quantisation } from "../../src/lib/quant";
import type { Fit, Model, OperationView, Snapshot } from "../../src/types";

test.each([
  ["/models/GLM-4.7-Flash-Q4_K_M.gguf", "Q4_K_M"],
  ["Qwen3-Coder-30B-A3B-Instruct-UD-Q5_K_XL.gguf", "UD-Q5_K_XL"],
  ["gpt-oss-20b-mxfp4.gguf", "MXFP4"],
  ["Llama-4-Scout-17B-16E-IQ2_XXS-00001-of-00002.gguf", "IQ2_XXS"],
  ["model.Q8_0.gguf", "Q8_0"],
  ["model-BF16.gguf", "BF16"],
  ["Qwen3-4B.gguf", null],
  ["tiny.gguf", null],
])("%s is quantised as %s", (file, expected) => {
  expect(quantisation(file)).toBe(expected);
});

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  name: id.toUpperCase(),
  description: null,
  file: `/models/${id}-Q4_0.gguf`,
  size_bytes: 1,
  ctx: 4096,
  parallel: 1,
  state: "available",
  aliases: [],
  fit: null,
  ...more,
});
const snapshot = (more: Partial<Snapshot>) =>
  ({ phase: "stopped", model: null, operation: null, sessions: [], ...more }) as Snapshot;
const operation = (more: Partial<OperationView>) =>
  ({
    id: "1",
    kind: "switch",
    from: "a",
    to: "b",
    step: "load",
    started_at: "2026-11-21T12:00:00Z",
    ...more,
  }) as OperationView;

test("each word of a search has to be found, wherever", () => {
  const list = [model("glm", { aliases: ["claude-haiku-*"] }), model("qwen", { description: "a coding agent" })];
  const ids = (query: string) => findModels(list, query).map((found) => found.id);
  expect(ids("  ")).toEqual(["glm", "qwen"]);
  expect(ids("HAIKU")).toEqual(["glm"]);
  expect(ids("q4_0 agent")).toEqual(["qwen"]);
  expect(ids("glm agent")).toEqual([]);
});

test("the row of the model in question shows the phase, the others whether they are there", () => {
  const now = snapshot({ phase: "loading", model: "a" });
  expect(stateOf(model("a"), now)).toBe("loading");
  expect(stateOf(model("b", { state: "ready" }), now)).toBe("available");
  expect(stateOf(model("c", { state: "missing" }), now)).toBe("missing");
  expect(stateOf(model("a"), null)).toBe("available");
});

test("a row offers what makes sense for it", () => {
  const ready = snapshot({ phase: "ready", model: "a" });
  expect(actionFor(model("a"), ready)).toBe("stop");
  expect(actionFor(model("b"), ready)).toBe("switch");
  expect(actionFor(model("b", { state: "missing" }), ready)).toBe("none");
  expect(actionFor(model("b"), snapshot({}))).toBe("start");
  expect(actionFor(model("b"), snapshot({ phase: "ready", model: "a", operation: operation({}) }))).toBe("stop");
  expect(actionFor(model("a"), snapshot({ phase: "ready", model: "a", operation: operation({}) }))).toBe("switch");
  expect(actionFor(model("a"), null)).toBe("none");
});

test("progress is never done before it is, and says what is left", () => {
  const start = Date.parse("2026-11-21T12:00:00Z");
  expect(progress(operation({ expected_ms: 10_000 }), start + 4000)).toEqual({ share: 0.4, time: "about 6.0 s left" });
  expect(progress(operation({ expected_ms: 10_000 }), start + 12_000)).toEqual({
    share: 0.97,
    time: "12 s, longer than usual",
  });
  expect(progress(operation({}), start + 3000)).toEqual({ share: null, time: "3.0 s" });
  const pull = operation({ step: "pull", progress: { done_bytes: 2 ** 29, total_bytes: 2 ** 30 } });
  expect(progress(pull, start + 3000).share).toBe(0.5);
  expect(stepName(pull)).toBe("Pulling the image, 512 MiB of 1.00 GiB");
});

test("an operation is named by its models", () => {
  const name = (id: string) => id.toUpperCase();
  expect(title(operation({}), name)).toBe("Switching from A to B");
  expect(title(operation({ from: "b" }), name)).toBe("Switching to B");
  expect(title(operation({ kind: "stop", to: null }), name)).toBe("Stopping A");
  expect(title(operation({ kind: "start", from: null }), name)).toBe("Starting B");
});

test.each([
  [{ verdict: "fits" }, "good", "ok", "Fits"],
  [{ verdict: "reduced", layers_on_cpu: 1 }, "warn", "half", "1 layer on CPU"],
  [{ verdict: "reduced", layers_on_cpu: 20 }, "warn", "half", "20 layers on CPU"],
  [{ verdict: "reduced", ctx: 8192 }, "warn", "half", "8k context"],
  [{ verdict: "reduced", ctx: 8192, layers_on_cpu: 20 }, "warn", "half", "8k context, 20 layers on CPU"],
  [{ verdict: "no" }, "bad", "no", "Too big"],
] as const)("%j is shown as %s, %s, %s", (more, tone, icon, text) => {
  const fit = { ctx: 65_536, ctx_configured: 65_536, layers_on_cpu: 0, ...more } as Fit;
  expect(fitMark(fit)).toEqual({ tone, icon, text });
});

test("only a refusal for the sake of memory can be overruled", () => {
  expect([isTooBig("insufficient_memory"), isTooBig("model_file_truncated"), isTooBig(undefined)]).toEqual([
    true,
    false,
    false,
  ]);
});
