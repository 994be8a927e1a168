import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { asFailure } from "../../src/lib/failure";
import { address, browser, keepOpen, nativeWindow, platform, type StreamState } from "../../src/platform";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A page at an address, with what a tab keeps. */
function page(hash: string, kept: Record<string, string> = {}) {
  const replaced: string[] = [];
  const place = { hash, pathname: "/ui/", search: "", reload: vi.fn() };
  const listeners: (() => void)[] = [];
  vi.stubGlobal("window", {});
  vi.stubGlobal("location", place);
  vi.stubGlobal("addEventListener", (_: string, listener: () => void) => listeners.push(listener));
  vi.stubGlobal("history", { replaceState: (_: unknown, __: string, to: string) => replaced.push(to) });
  vi.stubGlobal("sessionStorage", {
    getItem: (name: string) => kept[name] ?? null,
    setItem: (name: string, value: string) => {
      kept[name] = value;
    },
  });
  return { kept, replaced, place, moved: () => listeners.forEach((listener) => void listener()) };
}

/** Answers by fetch, and what was asked. */
function answers(...list: (Response | Error)[]) {
  const asked: { url: string; init: RequestInit }[] = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    asked.push({ url, init });
    const next = list.shift();
    if (!next || next instanceof Error) throw next ?? new TypeError("no answer");
    return next;
  });
  return asked;
}

const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status });

test("blanks of a path and its query are filled, and quoted", () => {
  expect(address("/sessions/{id}", { path: { id: "a/b" } })).toBe("/sessions/a%2Fb");
  expect(address("/usage", { query: { by: "day", since: undefined } })).toBe("/usage?by=day");
});

test("the token leaves the address at once and stays in the tab", async () => {
  const { kept, replaced } = page("#token=secret&live");
  const asked = answers(json(200, { models: [] }));
  await platform().get("/models");
  expect(replaced).toEqual(["/ui/#live"]);
  expect(kept).toEqual({ "corral-token": "secret" });
  expect(asked[0].init.headers).toEqual({ Authorization: "Bearer secret" });
  expect(asked[0].url).toBe("/models");
});

test("a link with another token, opened in the same tab, takes effect and leaves the address, too", () => {
  const { kept, replaced, place, moved } = page("#models", { "corral-token": "old" });
  platform();
  place.hash = "#logs";
  moved();
  expect(place.reload).not.toHaveBeenCalled();
  place.hash = "#token=new&logs";
  moved();
  expect(kept).toEqual({ "corral-token": "new" });
  expect(replaced).toEqual(["/ui/#logs"]);
  expect(place.reload).toHaveBeenCalledOnce();
});

test("a page that is loaded again takes the token that the tab has kept", async () => {
  page("#models", { "corral-token": "kept" });
  const asked = answers(json(200, { models: [] }));
  await platform().get("/models");
  expect(asked[0].init.headers).toEqual({ Authorization: "Bearer kept" });
});

test("Corral's window speaks Tauri, a browser does not", async () => {
  const calls: unknown[] = [];
  page("");
  vi.stubGlobal("window", {
    __TAURI_INTERNALS__: {
      invoke: async (command: string, options: unknown) => {
        calls.push([command, options]);
        return { status: 409, body: { error: { code: "busy", message: "not now", hint: null } } };
      },
    },
  });
  const native = platform();
  expect(native.kind).toBe("window");
  expect(native.openClaude).toBeDefined();
  const failure = asFailure(await native.post("/stop", { force: true, wait: false }).catch((error) => error));
  expect([failure.code, failure.status]).toEqual(["busy", 409]);
  expect(calls).toEqual([["api", { method: "POST", path: "/stop", body: { force: true, wait: false } }]]);
  page("");
  expect([platform().kind, platform().chooseFolder]).toEqual(["browser", undefined]);
});

test("the window's streams are channels that end, and are told to stop", async () => {
  const calls: [string, Record<string, unknown>][] = [];
  const callbacks: ((message: unknown) => void)[] = [];
  vi.stubGlobal("window", {
    __TAURI_INTERNALS__: {
      transformCallback: (callback: (message: unknown) => void) => callbacks.push(callback),
      unregisterCallback: () => undefined,
      invoke: async (command: string, options: Record<string, unknown>) => {
        calls.push([command, options]);
        return 7;
      },
    },
  });
  const seen: unknown[] = [];
  const states: StreamState[] = [];
  const stream = nativeWindow().events(
    "live",
    (name, data) => seen.push([name, data]),
    (state) => states.push(state),
  );
  await vi.advanceTimersByTimeAsync(0);
  callbacks[0]({ index: 0, message: { event: "snapshot", data: { phase: "ready" } } });
  expect(seen).toEqual([["snapshot", { phase: "ready" }]]);
  callbacks[0]({ index: 1, message: { end: true } });
  await vi.advanceTimersByTimeAsync(0);
  expect(states.map((state) => state.open)).toEqual([true, false]);
  expect(calls.at(-1)).toEqual(["stop_stream", { id: 7 }]);
  await vi.advanceTimersByTimeAsync(500);
  expect(calls.filter(([command]) => command === "events").length).toBe(2);
  stream.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(calls.filter(([command]) => command === "events").length).toBe(2);
});

/** A window whose commands answer as `invoke` does; the callbacks of its channels. */
function desktop(invoke: (command: string, options: Record<string, unknown>) => Promise<unknown>) {
  const callbacks: ((message: unknown) => void)[] = [];
  const transformCallback = (callback: (message: unknown) => void) => callbacks.push(callback);
  const unregisterCallback = () => undefined;
  vi.stubGlobal("window", { __TAURI_INTERNALS__: { transformCallback, unregisterCallback, invoke } });
  return callbacks;
}

test("what a command of the window rejects with is a failure with its code and hint, wherever", async () => {
  // Tauri rejects with what the command's error is as JSON, not with an `Error`.
  const error = { code: "daemon_unavailable", message: "Corral does not answer", hint: "start it", log: ["a line"] };
  desktop(async () => {
    throw error;
  });
  const native = nativeWindow();
  const doings = [
    native.get("/models"),
    native.saveFile("a.csv", ""),
    native.openClaude!(null),
    native.chooseFolder!(),
    native.post("/stop", { force: true, wait: false }),
  ];
  for (const ended of await Promise.allSettled<unknown>(doings)) {
    const failure = ended.status === "rejected" ? ended.reason : null;
    // A resource of the views takes whatever is no `Error` for an unknown one.
    expect(failure).toBeInstanceOf(Error);
    expect(asFailure(failure)).toMatchObject({ ...error, status: 0 });
  }
  const states: StreamState[] = [];
  native
    .logs(
      10,
      () => undefined,
      (state) => states.push(state),
    )
    .stop();
  native.events(
    null,
    () => undefined,
    (state) => states.push(state),
  );
  await vi.advanceTimersByTimeAsync(0);
  expect(states).toMatchObject([{ open: false, failure: error }]);
});

test("whatever is thrown has words", () => {
  expect(asFailure({ code: "busy", message: "not now" })).toMatchObject({ code: "busy", hint: null, log: [] });
  expect(asFailure("no such command")).toMatchObject({ code: "internal", message: "no such command" });
  expect(asFailure(new TypeError("odd"))).toMatchObject({ code: "internal", message: "odd" });
  for (const odd of [{}, { message: 7, code: "busy" }, null, undefined]) expect(asFailure(odd).code).toBe("internal");
});

test("a stream of the window that is stopped before it has opened is told to stop, and says nothing more", async () => {
  const calls: [string, Record<string, unknown>][] = [];
  let opens: (id: number) => void = () => undefined;
  const callbacks = desktop((command, options) => {
    calls.push([command, options]);
    return command === "logs" ? new Promise((resolve) => (opens = resolve)) : Promise.resolve(null);
  });
  const seen: unknown[] = [];
  const states: StreamState[] = [];
  const stream = nativeWindow().logs(
    10,
    (record) => seen.push(record),
    (state) => states.push(state),
  );
  await vi.advanceTimersByTimeAsync(0);
  stream.stop();
  await vi.advanceTimersByTimeAsync(0);
  opens(7);
  await vi.advanceTimersByTimeAsync(0);
  // What was on its way before the other side heard of it.
  callbacks[0]({ index: 0, message: [{ msg: "late" }] });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(calls.map(([command]) => command)).toEqual(["logs", "stop_stream"]);
  expect(calls[1][1]).toEqual({ id: 7 });
  expect([seen, states]).toEqual([[], []]);
});

test("the window says where a file was saved, and that it was not", async () => {
  const answers = ["/home/ada/usage.csv", null];
  desktop(async () => answers.shift());
  expect(await nativeWindow().saveFile("usage.csv", "")).toBe("/home/ada/usage.csv");
  expect(await nativeWindow().saveFile("usage.csv", "")).toBe(null);
});

test("no answer, a refusal, and an answer that is no JSON", async () => {
  const http = browser("", "t");
  const failure = async (answer: Response | Error) => {
    answers(answer);
    return asFailure(await http.get("/status").catch((error) => error));
  };
  expect((await failure(new TypeError("refused"))).code).toBe("daemon_unavailable");
  expect((await failure(json(401, { error: { code: "unauthorized", message: "no", hint: null } }))).status).toBe(401);
  expect((await failure(new Response("<html>", { status: 502 }))).message).toBe("Corral answered with 502");
});

test("events arrive, and a stream that breaks is opened again, later each time", async () => {
  const body = 'event: snapshot\ndata: {"phase":"ready"}\n\n';
  const asked = answers(new Response(body), new TypeError("gone"), new TypeError("gone"), new Response(body));
  const seen: unknown[] = [];
  const states: StreamState[] = [];
  const stream = browser("", "t").events(
    "live",
    (name, data) => seen.push([name, data]),
    (state) => states.push(state),
  );
  await vi.advanceTimersByTimeAsync(0);
  expect(seen).toEqual([["snapshot", { phase: "ready" }]]);
  expect(asked[0].url).toBe("/events?live=1");
  expect(states.map((state) => state.open)).toEqual([true, false]);
  await vi.advanceTimersByTimeAsync(499);
  expect(asked.length).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked.length).toBe(2);
  await vi.advanceTimersByTimeAsync(999);
  expect(asked.length).toBe(2);
  stream.retry();
  await vi.advanceTimersByTimeAsync(0);
  expect(asked.length).toBe(3);
  await vi.advanceTimersByTimeAsync(2000);
  expect(seen.length).toBe(2);
  stream.stop();
});

test("a token that is not taken is not tried again", async () => {
  const states: StreamState[] = [];
  const connect = vi.fn(async () => {
    throw asFailure(Object.assign(new Error(), {}));
  });
  keepOpen(connect, (state) => states.push(state)).stop();
  const asked = answers(json(401, { error: { code: "unauthorized", message: "no", hint: null } }));
  browser("", "old").logs(
    10,
    () => undefined,
    (state) => states.push(state),
  );
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBe(1);
  expect(states).toMatchObject([{ open: false, retryAt: null, failure: { status: 401 } }]);
});
