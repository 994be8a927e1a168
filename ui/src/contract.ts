// Routes that docs/openapi.json does not describe yet; each goes from here when it does.
import type { ErrorBody } from "./types";

interface Json<T> {
  content: { "application/json": T };
}

interface Reads<T> {
  get: { responses: { 200: Json<T> } };
}

interface Takes<B, T> {
  requestBody: { content: { "application/json": B } };
  responses: { 200: Json<T> };
}

/** A mistake in models.toml; lines and columns from 1. */
export interface Problem {
  line: number | null;
  column: number | null;
  end_column: number | null;
  key: string | null;
  model: string | null;
  error: ErrorBody;
}

/** models.toml as it is on disk, and what the first tables say. */
export interface Catalog {
  path: string;
  text: string;
  version: string;
  problems: Problem[];
  engine: { runtime: "docker" | "process"; image: string; binary: string; models_dir: string };
  server: { auto_switch: "always" | "sessions" | "never" };
}

/** What is set in place in models.toml. */
export interface EnginePatch {
  engine?: Partial<Catalog["engine"]>;
  server?: Partial<Catalog["server"]>;
}

/** settings.toml. */
export interface Settings {
  on_quit: "stop" | "keep";
  terminal?: string | string[] | null;
  notifications: "all" | "problems" | "none";
  restore_last: boolean;
}

export interface SettingsAnswer {
  path: string;
  settings: Settings;
  problem: ErrorBody | null;
  writable: boolean;
}

/** One finding of `corral doctor`. */
export interface Finding {
  check: string;
  status: "ok" | "warning" | "problem";
  message: string;
  remedy: string | null;
}

export interface Autostart {
  enabled: boolean;
  path: string;
  /** What is launched; none where that is not installed. */
  command: string | null;
}

export interface LiveSession {
  id: string;
  label: string | null;
  workspace: string | null;
  model: string | null;
  started_at: string;
  running: number;
  requests: number;
  tokens_in: number;
  tokens_out: number;
  tokens_cached: number;
}

/** One reading of what is going on. */
export interface Live {
  at: string;
  requests: { running: number; waiting: number };
  tokens_per_second: number | null;
  prompt_tokens_per_second: number | null;
  context: {
    used_tokens: number;
    total_tokens: number;
    slots: { id: number; used_tokens: number; total_tokens: number; busy: boolean }[];
  } | null;
  cached_share: number | null;
  sessions: LiveSession[];
}

export interface GpuDevice {
  index: number;
  uuid: string;
  name: string;
  util_percent: number | null;
  mem_used_bytes: number | null;
  mem_total_bytes: number | null;
  temperature_c: number | null;
  power_w: number | null;
  processes: {
    pid: number;
    name: string | null;
    mem_bytes: number | null;
    container: string | null;
    model: string | null;
  }[];
}

/** One reading of the GPUs. */
export interface Gpu {
  source: string;
  reason?: string | null;
  devices: GpuDevice[];
}

export interface MorePaths {
  "/settings": Reads<SettingsAnswer> & { put: Takes<Settings, SettingsAnswer> };
  "/catalog": Reads<Catalog> & {
    put: Takes<{ text: string; version: string }, Catalog>;
    patch: Takes<EnginePatch, Catalog>;
  };
  "/catalog/check": { post: Takes<{ text: string }, { problems: Problem[] }> };
  "/doctor": Reads<{ findings: Finding[] }>;
  "/autostart": Reads<Autostart> & { put: Takes<{ enabled: boolean }, Autostart> };
  "/live": Reads<Live>;
  "/gpu": Reads<Gpu>;
}
