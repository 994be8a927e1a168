import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Failure } from "../../src/lib/failure";
import type { OnEvent, StreamState } from "../../src/platform";
import { createCatalogDraft } from "../../src/state/catalog-draft";
import { createCorral } from "../../src/state/corral";
import { createForm } from "../../src/state/form";
import type { Catalog, Settings } from "../../src/types";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

type Handler = (body: unknown) => unknown;

/** A platform that answers as the test says: a fake at the port, so that order and failures can be chosen. */
function fake(routes: Record<string, Handler>) {
  const calls: [string, unknown][] = [];
  const streams: OnEvent[] = [];
  let onState: (state: StreamState) => void = () => undefined;
  const call = (method: string) => async (path: string, body?: unknown) => {
    calls.push([`${method} ${path}`, body]);
    const handler = routes[`${method} ${path}`];
    if (!handler) throw new Failure({ code: "not_found", message: "no such route", hint: null }, 404);
    return handler(body);
  };
  const platform = {
    kind: "browser",
    get: call("GET"),
    post: call("POST"),
    put: call("PUT"),
    patch: call("PATCH"),
    delete: call("DELETE"),
    events: (_: unknown, events: OnEvent, states: typeof onState) => {
      streams.push(events);
      onState = states;
      return { stop: () => undefined, retry: () => undefined };
    },
  };
  return {
    platform: platform as never,
    calls,
    /** To the stream that was opened last. */
    emit: (name: string, data: unknown) => streams.at(-1)!(name, data),
    /** To each that was ever opened. */
    emitToAll: (name: string, data: unknown) => streams.forEach((stream) => void stream(name, data)),
    state: (state: StreamState) => onState(state),
  };
}

const snapshot = (more: object) => ({
  phase: "stopped",
  model: null,
  operation: null,
  sessions: [],
  catalog: { models: 1, problems: [] },
  ...more,
});

test("events feed the state, and the models are read anew when they may have changed", async () => {
  let version = 0;
  const { platform, calls, emit, state } = fake({
    "GET /models": () => ({ models: [{ id: "a", name: `A${++version}` }] }),
  });
  const corral = createCorral(platform);
  expect(corral.connection()).toEqual({ state: "connecting" });
  state({ open: true });
  emit("snapshot", snapshot({}));
  await vi.advanceTimersByTimeAsync(0);
  expect([corral.connection().state, corral.snapshot()?.phase, corral.modelName("a"), corral.modelName("b")]).toEqual([
    "open",
    "stopped",
    "A1",
    "b",
  ]);
  emit("snapshot", snapshot({ operation: { id: "1" } }));
  await vi.advanceTimersByTimeAsync(0);
  expect(calls.length).toBe(1);
  emit("snapshot", snapshot({ phase: "ready", model: "a" }));
  emit("snapshot", snapshot({ phase: "draining", model: "a" }));
  await vi.advanceTimersByTimeAsync(0);
  expect(corral.modelName("a")).toBe(`A${version}`);
  expect(calls.length).toBe(3);
  // Another catalog with as many models, and then nothing new.
  const changed = { phase: "draining", model: "a", catalog: { revision: 2, models: 1, problems: [] } };
  emit("snapshot", snapshot(changed));
  emit("snapshot", snapshot({ ...changed, sessions: [{ id: "s" }] }));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(calls.length).toBe(4);
});

test("notices are shown, four at most, and go when they are dismissed", () => {
  const { platform, emit } = fake({});
  const corral = createCorral(platform);
  for (let number = 0; number < 6; number += 1)
    emit("notice", { at: "", level: "info", message: `${number}`, error: null });
  expect(corral.toasts().map((toast) => toast.message)).toEqual(["2", "3", "4", "5"]);
  corral.dismiss(corral.toasts()[0].id);
  expect(corral.toasts().length).toBe(3);
});

test("what fails is said; a token that is not taken leads outside", async () => {
  const refused = () => {
    throw new Failure({ code: "unauthorized", message: "no token", hint: null }, 401);
  };
  const { platform, state } = fake({ "POST /stop": refused });
  const corral = createCorral(platform);
  expect(await corral.attempt(async () => 1)).toBe(true);
  const gone = new Failure({ code: "daemon_unavailable", message: "gone", hint: null }, 0);
  state({ open: false, failure: gone, retryAt: 5 });
  expect(corral.connection()).toEqual({ state: "lost", failure: gone, retryAt: 5 });
  expect(await corral.attempt(() => corral.platform.post("/stop", { force: false, wait: false }))).toBe(false);
  expect([corral.connection().state, corral.toasts()[0].error?.code]).toEqual(["unauthorized", "unauthorized"]);
});

const catalog = (text: string): Catalog => ({
  path: "/models.toml",
  text,
  version: `v:${text}`,
  problems: [],
  engine: { runtime: "docker", image: "i", binary: "b", models_dir: "~/models" },
  server: { auto_switch: "always" },
});

test("typing is checked after a pause, and only the newest answer counts", async () => {
  const problem = {
    line: 1,
    column: 1,
    end_column: 2,
    key: null,
    model: null,
    error: { code: "x", message: "m", hint: null },
  };
  const { platform, calls } = fake({
    "GET /catalog": () => catalog("a"),
    "POST /catalog/check": () => ({ problems: [problem] }),
  });
  const draft = createCatalogDraft(platform);
  await draft.load();
  draft.edit("ab");
  draft.edit("abc");
  expect([draft.dirty(), calls.length]).toEqual([true, 1]);
  await vi.advanceTimersByTimeAsync(300);
  expect(calls.at(-1)).toEqual(["POST /catalog/check", { text: "abc" }]);
  expect(draft.problems()).toEqual([problem]);
  // Coming back to the view reads the file, and keeps what was typed.
  await draft.load();
  expect(draft.text()).toBe("abc");
});

test("a file that changed meanwhile is shown beside what was typed, and nothing is lost", async () => {
  let disk = "theirs";
  const { platform } = fake({
    "GET /catalog": () => catalog(disk),
    "PUT /catalog": (body) => {
      const { text, version } = body as { text: string; version: string };
      if (version !== `v:${disk}`) throw new Failure({ code: "catalog_changed", message: "changed", hint: null }, 409);
      disk = text;
      return catalog(disk);
    },
  });
  const draft = createCatalogDraft(platform);
  disk = "before";
  await draft.load();
  draft.edit("mine");
  disk = "theirs";
  expect(await draft.save()).toBe(false);
  expect([draft.text(), draft.conflict()?.text, disk]).toEqual(["mine", "theirs", "theirs"]);
  draft.postpone();
  expect([draft.conflict(), draft.text()]).toEqual([null, "mine"]);
  await draft.save();
  expect(await draft.settle(true)).toBe(true);
  expect([disk, draft.text(), draft.dirty(), draft.conflict()]).toEqual(["mine", "mine", false, null]);
});

test("a refused save keeps what was typed and says why", async () => {
  const { platform } = fake({
    "GET /catalog": () => catalog("a"),
    "PUT /catalog": () => {
      throw new Failure({ code: "catalog_invalid", message: "no catalog", hint: null }, 422);
    },
  });
  const draft = createCatalogDraft(platform);
  await draft.load();
  draft.edit("[[[");
  expect(await draft.save()).toBe(false);
  expect([draft.text(), draft.failure()?.code]).toEqual(["[[[", "catalog_invalid"]);
});

const settings = (more: Partial<Settings>): { path: string; settings: Settings; problem: null; writable: boolean } => ({
  path: "/settings.toml",
  settings: { on_quit: "stop", notifications: "all", restore_last: true, ...more },
  problem: null,
  writable: true,
});

test("only what was changed is written, to where it belongs", async () => {
  const { platform, calls } = fake({
    "GET /settings": () => settings({ terminal: ["kitty", "--hold"] }),
    "GET /catalog": () => catalog("a"),
    "GET /autostart": () => ({ enabled: false, path: "/a", command: "c" }),
    "PATCH /catalog": () => ({ ...catalog("b"), engine: { ...catalog("b").engine, image: "j" } }),
    "PUT /settings": (body) => settings(body as Settings),
  });
  const form = createForm(platform);
  await form.load();
  expect([form.value("terminal"), form.value("image"), form.value("autostart"), form.dirty()]).toEqual([
    "kitty --hold",
    "i",
    false,
    false,
  ]);
  form.set("image", "j");
  form.set("terminal", "");
  form.set("autostart", true);
  form.set("autostart", false);
  calls.length = 0;
  expect(await form.save()).toBe(true);
  expect(calls).toEqual([
    ["PATCH /catalog", { engine: { image: "j" }, server: {} }],
    ["PUT /settings", { on_quit: "stop", notifications: "all", restore_last: true }],
  ]);
  expect(form.dirty()).toBe(false);
});

test("one route that refuses keeps its change and does not stop the others", async () => {
  const { platform } = fake({
    "GET /settings": () => settings({}),
    "GET /catalog": () => catalog("a"),
    "PATCH /catalog": () => {
      throw new Failure({ code: "io", message: "read only", hint: null }, 500);
    },
    "PUT /settings": (body) => settings(body as Settings),
  });
  const form = createForm(platform);
  expect(await form.load()).toBe(false);
  form.set("models_dir", "/elsewhere");
  form.set("notifications", "none");
  expect(await form.save()).toBe(false);
  expect([form.isChanged("models_dir"), form.isChanged("notifications"), form.value("notifications")]).toEqual([
    true,
    false,
    "none",
  ]);
  expect(form.failures().map((failure) => failure.code)).toEqual(["io"]);
  expect(form.value("autostart")).toBeUndefined();
});

test("readings of the GPUs are taken as they come, at their own time", () => {
  const { platform, emit } = fake({});
  const corral = createCorral(platform);
  corral.watchGpu();
  const reading = (at: string, percent: number | null) => ({
    at,
    source: "nvml",
    devices: [{ uuid: "GPU-0", util_percent: percent, mem_used_bytes: 2 ** 30, temperature_c: 61, power_w: null }],
  });
  emit("gpu", reading("2026-11-21T08:00:00Z", 71));
  emit("live", { at: "2026-11-21T08:00:00Z" });
  emit("gpu", reading("2026-11-21T08:00:01Z", null));
  expect(corral.gpu()?.devices[0].util_percent).toBe(null);
  expect(corral.live()).toBe(null);
  const then = Date.parse("2026-11-21T08:00:00Z") / 1000;
  expect(corral.gpuSeries.get("GPU-0")?.data()).toEqual([
    [then, then + 1],
    [71, null],
    [1, 1],
    [61, 61],
    [null, null],
  ]);
});

test("a notice is shown whichever stream brings it, and once where several do", () => {
  const { platform, emit, emitToAll } = fake({});
  const corral = createCorral(platform);
  const notice = (second: number) => ({
    at: `2026-11-21T08:00:0${second}Z`,
    level: "error",
    message: "the page ended, and is shown anew",
    error: null,
  });
  const leave = corral.watchGpu();
  emit("notice", notice(1));
  expect(corral.toasts().map((toast) => toast.message)).toEqual(["the page ended, and is shown anew"]);
  emitToAll("notice", notice(2));
  expect(corral.toasts().length).toBe(2);
  emitToAll("notice", notice(3));
  expect(corral.toasts().length).toBe(3);
  leave.stop();
  expect(corral.snapshot()).toBe(null);
});

test("where there is no room for another notice, the oldest that would have gone by itself goes", () => {
  const { platform } = fake({});
  const corral = createCorral(platform);
  corral.toast("warning", "do this");
  corral.toast("info", "saved");
  for (const message of ["a", "b"]) corral.toast("error", message);
  corral.toast("info", "saved again");
  corral.toast("error", "c");
  const shown = () => corral.toasts().map((toast) => toast.message);
  expect(shown()).toEqual(["do this", "a", "b", "c"]);
  corral.toast("error", "d");
  expect(shown()).toEqual(["a", "b", "c", "d"]);
});

test("the charts of the GPUs begin with what was read before, each time that somebody comes to look", async () => {
  const at = (second: number) => new Date(Date.parse("2026-11-21T08:00:00Z") + second * 1000).toISOString();
  let history = { at: [at(0), at(15)], util: [10, 20] as (number | null)[] };
  const { platform, emit, state } = fake({
    "GET /gpu/history": () => ({
      at: history.at,
      devices: [
        {
          uuid: "GPU-0",
          util_percent: history.util,
          mem_used_bytes: history.util.map(() => 2 ** 30),
          temperature_c: history.util.map(() => null),
          power_w: history.util.map(() => null),
        },
      ],
    }),
  });
  const corral = createCorral(platform);
  corral.watchGpu();
  const reading = (second: number, percent: number) =>
    emit("gpu", { at: at(second), source: "nvml", devices: [{ uuid: "GPU-0", util_percent: percent }] });
  // One that comes before the answer with the history does.
  state({ open: true });
  reading(16, 30);
  await vi.advanceTimersByTimeAsync(0);
  const seconds = () =>
    corral.gpuSeries
      .get("GPU-0")!
      .data()[0]
      .map((time) => time - Date.parse(at(0)) / 1000);
  const utilisation = () => corral.gpuSeries.get("GPU-0")!.data()[1];
  expect([seconds(), utilisation()]).toEqual([
    [0, 15, 16],
    [10, 20, 30],
  ]);
  // The daemon was started anew: it knows less than the page does.
  history = { at: [at(300), at(301)], util: [40, null] };
  reading(302, 50);
  state({ open: true });
  await vi.advanceTimersByTimeAsync(0);
  expect([seconds(), utilisation()]).toEqual([
    [0, 15, 16, 36, 300, 301, 302],
    [10, 20, 30, null, 40, null, 50],
  ]);
});

test("where the readings before cannot be had, the charts begin now", async () => {
  const { platform, emit, state } = fake({});
  const corral = createCorral(platform);
  corral.watchGpu();
  state({ open: true });
  emit("gpu", { at: "2026-11-21T08:00:00Z", source: "nvml", devices: [{ uuid: "GPU-0", util_percent: 1 }] });
  await vi.advanceTimersByTimeAsync(0);
  expect(corral.gpuSeries.get("GPU-0")?.length).toBe(1);
});
