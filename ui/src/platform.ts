// The one place that knows whether this is a browser, which speaks HTTP, or Corral's own window, which speaks Tauri.
import { Channel, invoke } from "@tauri-apps/api/core";
import { asFailure, type Failure, refusal, unreachable } from "./lib/failure";
import { takeToken } from "./lib/route";
import { backoff, eventReader, lineReader } from "./lib/streams";
import type { LogRecord, Paths } from "./types";

type Method = "get" | "post" | "put" | "patch" | "delete";

/** The routes that take a method. */
export type PathOf<M extends Method> = {
  [P in keyof Paths]: Paths[P] extends { [K in M]: { responses: unknown } } ? P : never;
}[keyof Paths];

type Operation<P extends keyof Paths, M extends Method> = M extends keyof Paths[P] ? Paths[P][M] : never;
type Json<R> = R extends { content: { "application/json": infer B } } ? B : undefined;
type Good<R> = { [S in keyof R]: S extends 200 | 201 | 202 | 204 ? Json<R[S]> : never }[keyof R];

/** What a route answers when all is well. */
export type Answer<P extends keyof Paths, M extends Method> =
  Operation<P, M> extends { responses: infer R } ? Good<R> : never;

/** What a route takes. */
export type Body<P extends keyof Paths, M extends Method> =
  Operation<P, M> extends { requestBody?: { content: { "application/json": infer B } } } ? B : undefined;

/** What fills a route's path and query. */
export interface Fill {
  path?: Record<string, string>;
  query?: Record<string, string | undefined>;
}

/** What a stream tells of itself; `retryAt` is a time in milliseconds. */
export type StreamState = { open: true } | { open: false; failure: Failure; retryAt: number | null };

/** A stream that opens itself again until it is stopped. */
export interface Stream {
  stop(): void;
  /** Tries at once rather than when the wait is over. */
  retry(): void;
}

/** One event: `snapshot`, `notice`, `live`, `gpu`. */
export type OnEvent = (name: string, data: unknown) => void;

/** Readings that come each second: of what goes on, of the GPUs. */
export type Readings = "live" | "gpu";

/** What the dashboard needs of the world. */
export interface Platform {
  kind: "browser" | "window";
  get<P extends PathOf<"get">>(path: P, fill?: Fill): Promise<Answer<P, "get">>;
  post<P extends PathOf<"post">>(path: P, body: Body<P, "post">): Promise<Answer<P, "post">>;
  put<P extends PathOf<"put">>(path: P, body: Body<P, "put">): Promise<Answer<P, "put">>;
  patch<P extends PathOf<"patch">>(path: P, body: Body<P, "patch">): Promise<Answer<P, "patch">>;
  delete<P extends PathOf<"delete">>(path: P, fill?: Fill): Promise<Answer<P, "delete">>;
  /** The events of Corral, with such readings each second besides where they are wanted. */
  events(readings: Readings | null, onEvent: OnEvent, onState: (state: StreamState) => void): Stream;
  /** The last `tail` lines of the log and all that follow. */
  logs(tail: number, onRecord: (record: LogRecord) => void, onState: (state: StreamState) => void): Stream;
  copy(text: string): Promise<void>;
  /** Answers where it was saved; null where that is not known, since the browser sees to it, or where nobody chose a place. */
  saveFile(name: string, text: string): Promise<string | null>;
  /** To be called once, when the first view can be used. */
  ready(): void;
  /** Only where there is a desktop. */
  openClaude?(folder: string | null): Promise<void>;
  chooseFolder?(): Promise<string | null>;
}

type Send = (method: string, path: string, body: unknown) => Promise<{ status: number; body: unknown }>;

/** Opens a stream: answers when it has ended well, throws where it could not be opened or broke. */
type Connect = (signal: AbortSignal, opened: () => void) => Promise<void>;

/** The path with its blanks filled. */
export function address(path: string, fill: Fill = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(fill.path?.[name] ?? ""));
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fill.query ?? {})) if (value) query.set(name, value);
  return query.size ? `${filled}?${query}` : filled;
}

function routes(send: Send) {
  const call = async (method: Method, path: string, body?: unknown, fill?: Fill) => {
    const answer = await send(method.toUpperCase(), address(path, fill), body);
    if (answer.status < 200 || answer.status > 299) throw refusal(answer.status, answer.body);
    return answer.body as never;
  };
  return {
    get: (path: string, fill?: Fill) => call("get", path, undefined, fill),
    post: (path: string, body: unknown) => call("post", path, body ?? {}),
    put: (path: string, body: unknown) => call("put", path, body),
    patch: (path: string, body: unknown) => call("patch", path, body),
    delete: (path: string, fill?: Fill) => call("delete", path, undefined, fill),
  } as Pick<Platform, "get" | "post" | "put" | "patch" | "delete">;
}

/** Keeps a stream open: after each end it waits a while, longer each time, and opens it again. */
export function keepOpen(connect: Connect, onState: (state: StreamState) => void): Stream {
  const control = new AbortController();
  let wake: () => void = () => undefined;
  const run = async () => {
    for (let attempt = 0; !control.signal.aborted; attempt += 1) {
      let failure = unreachable();
      try {
        await connect(control.signal, () => {
          attempt = 0;
          onState({ open: true });
        });
      } catch (error) {
        failure = asFailure(error);
      }
      if (control.signal.aborted) return;
      // A token that is not taken now is not taken later.
      const final = failure.status === 401;
      const wait = backoff(attempt);
      onState({ open: false, failure, retryAt: final ? null : Date.now() + wait });
      if (final) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  void run();
  return {
    stop: () => {
      control.abort();
      wake();
    },
    retry: () => wake(),
  };
}

/** A browser: HTTP on the address that the page came from, with the token that the fragment carried. */
export function browser(base: string, token: string | null): Platform {
  const headers = (json: boolean) => ({
    ...(token ? { Authorization: `Bearer ${token}` } : {}),
    ...(json ? { "Content-Type": "application/json" } : {}),
  });
  const send: Send = async (method, path, body) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await fetch(base + path, { method, headers: headers(text !== undefined), body: text }).catch(() => {
      throw unreachable();
    });
    return { status: answer.status, body: await answer.json().catch(() => null) };
  };
  const stream =
    (path: string, reader: () => (piece: string) => void): Connect =>
    async (signal, opened) => {
      const answer = await fetch(base + path, { headers: headers(false), signal, cache: "no-store" }).catch(() => {
        throw unreachable();
      });
      if (!answer.ok) throw refusal(answer.status, await answer.json().catch(() => null));
      opened();
      const pieces = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
      const take = reader();
      try {
        for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) take(piece.value);
      } catch {
        throw unreachable();
      }
    };
  return {
    kind: "browser",
    ...routes(send),
    events: (readings, onEvent, onState) => {
      const reader = () => eventReader((event) => onEvent(event.name, JSON.parse(event.data)));
      return keepOpen(stream(readings ? `/events?${readings}=1` : "/events", reader), onState);
    },
    logs: (tail, onRecord, onState) => {
      const reader = () => lineReader((line) => line && onRecord(JSON.parse(line)));
      return keepOpen(stream(`/logs?tail=${tail}&follow=1`, reader), onState);
    },
    copy: (text) => navigator.clipboard.writeText(text),
    saveFile: async (name, text) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      return null;
    },
    ready: () => undefined,
  };
}

/** What Corral's window sends over a channel: an event, lines of the log, or that the stream has ended. */
type Message = { event: string; data: unknown } | { end: true } | LogRecord[];

/** Runs a command of the window. It rejects with an error's body, which is no `Error`: that is made one here, for all. */
function command<T>(name: string, options?: Record<string, unknown>): Promise<T> {
  return invoke<T>(name, options).catch((error) => {
    throw asFailure(error);
  });
}

/** Corral's own window. */
export function nativeWindow(): Platform {
  const send: Send = (method, path, body) => command("api", { method, path, body: body ?? null });
  const stream =
    (name: "events" | "logs", options: Record<string, unknown>, take: (message: Message) => void): Connect =>
    async (signal, opened) => {
      let ended = () => {};
      const end = new Promise<void>((resolve) => {
        ended = resolve;
      });
      const channel = new Channel<Message>();
      channel.onmessage = (message) => {
        if ("end" in message) ended();
        else if (!signal.aborted) take(message);
      };
      const id = await command<number>(name, { ...options, channel });
      // It may have been stopped before it was open, of which the signal says nothing any more.
      if (!signal.aborted) {
        opened();
        signal.addEventListener("abort", ended);
        await end;
      }
      await command("stop_stream", { id });
    };
  return {
    kind: "window",
    ...routes(send),
    events: (readings, onEvent, onState) => {
      const take = (message: Message) => "event" in message && onEvent(message.event, message.data);
      return keepOpen(stream("events", { readings }, take), onState);
    },
    logs: (tail, onRecord, onState) => {
      const take = (message: Message) => {
        for (const record of message as LogRecord[]) onRecord(record);
      };
      return keepOpen(stream("logs", { tail }, take), onState);
    },
    copy: (text) => navigator.clipboard.writeText(text),
    saveFile: (name, text) => command("save_file", { name, text }),
    ready: () => void command("window_ready"),
    openClaude: (folder) => command("open_claude", { folder }),
    chooseFolder: () => command("choose_folder"),
  };
}

/** The token of this tab: out of the address, where it does not stay, or as the tab has kept it. */
function tabToken(): string | null {
  const { token, hash } = takeToken(location.hash);
  if (token === null) return sessionStorage.getItem("corral-token");
  sessionStorage.setItem("corral-token", token);
  history.replaceState(null, "", location.pathname + location.search + hash);
  return token;
}

/** What this page runs in. */
export function platform(): Platform {
  if ("__TAURI_INTERNALS__" in window) return nativeWindow();
  const token = tabToken();
  // A link with a new token that is opened in this tab changes the fragment only.
  addEventListener("hashchange", () => {
    if (takeToken(location.hash).token === null) return;
    tabToken();
    location.reload();
  });
  return browser("", token);
}
