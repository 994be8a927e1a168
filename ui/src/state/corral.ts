import { batch, createContext, createSignal, useContext } from "solid-js";
import { createStore, reconcile } from "solid-js/store";
import { asFailure, type Failure } from "../lib/failure";
import { Series } from "../lib/series";
import type { Platform, Readings, StreamState } from "../platform";
import type { ErrorBody, Gpu, Live, Model, Notice, Snapshot } from "../types";

/** Whether events arrive. */
export type Connection =
  | { state: "connecting" | "open" | "unauthorized" }
  | { state: "lost"; failure: Failure; retryAt: number | null };

/** A notice on the screen. */
export interface Toast {
  id: number;
  level: Notice["level"];
  message: string;
  error: ErrorBody | null;
}

/** How many notices are on the screen at most. */
const TOASTS = 4;
/** How many notices are remembered, so that those that several streams bring are shown once. */
const NOTICES = 50;
/** Seconds of readings that the charts show. */
export const GPU_SPAN = 900;
export const LIVE_SPAN = 300;

/** The readings of one GPU over time: utilisation, memory in GiB, temperature, power. */
export function createGpuSeries(): Series {
  // While a model is loaded and nobody looks there is a reading every 15 seconds.
  return new Series(4, GPU_SPAN, 20);
}

/** What all views read: fed by the events of Corral, changed by nobody else. */
export function createCorral(platform: Platform) {
  const [snapshot, setSnapshot] = createSignal<Snapshot | null>(null);
  const [connection, setConnection] = createSignal<Connection>({ state: "connecting" });
  const [models, setModels] = createStore<{ list: Model[]; loaded: boolean; failure: Failure | null }>({
    list: [],
    loaded: false,
    failure: null,
  });
  const [toasts, setToasts] = createSignal<Toast[]>([]);
  const [gpu, setGpu] = createSignal<Gpu | null>(null);
  const [live, setLive] = createSignal<Live | null>(null);
  const liveSeries = new Series(2, LIVE_SPAN, 5);
  const gpuSeries = new Map<string, Series>();
  const [gpuVersion, setGpuVersion] = createSignal(0);
  let toastId = 0;

  function toast(level: Notice["level"], message: string, error: ErrorBody | null = null) {
    const id = ++toastId;
    setToasts((now) => {
      // What goes by itself makes room before what waits to be dismissed.
      const oldest = now.find((toast) => toast.level === "info") ?? now[0];
      const left = now.length < TOASTS ? now : now.filter((toast) => toast !== oldest);
      return [...left, { id, level, message, error }];
    });
    return id;
  }

  function dismiss(id: number) {
    setToasts((now) => now.filter((toast) => toast.id !== id));
  }

  let loading: Promise<void> | null = null;
  let stale = false;

  /** Reads the models; what changes while it reads is read once more. */
  async function loadModels(): Promise<void> {
    stale = true;
    loading ??= (async () => {
      while (stale) {
        stale = false;
        try {
          const { models: list } = await platform.get("/models");
          batch(() => {
            setModels("list", reconcile(list, { key: "id" }));
            setModels({ loaded: true, failure: null });
          });
        } catch (error) {
          setModels("failure", asFailure(error));
        }
      }
    })().finally(() => {
      loading = null;
    });
    return loading;
  }

  function takeLive(reading: Live) {
    liveSeries.push(Date.parse(reading.at) / 1000, [reading.tokens_per_second, reading.prompt_tokens_per_second]);
    setLive(reading);
  }

  function takeGpu(reading: Gpu) {
    const now = Date.parse(reading.at) / 1000;
    for (const device of reading.devices) {
      const gib = inGib(device.mem_used_bytes);
      seriesOf(device.uuid).push(now, [device.util_percent, gib, device.temperature_c, device.power_w]);
    }
    batch(() => {
      setGpu(reading);
      setGpuVersion((now) => now + 1);
    });
  }

  function seriesOf(uuid: string): Series {
    const series = gpuSeries.get(uuid) ?? createGpuSeries();
    gpuSeries.set(uuid, series);
    return series;
  }

  /** What was read before this page was there to take it. */
  async function loadGpuHistory() {
    // Where it cannot be had, the charts begin now.
    const history = await platform.get("/gpu/history").catch(() => null);
    const times = history?.at.map((at) => Date.parse(at) / 1000) ?? [];
    for (const { uuid, util_percent, mem_used_bytes, temperature_c, power_w } of history?.devices ?? []) {
      seriesOf(uuid).merge(times, [util_percent, mem_used_bytes.map(inGib), temperature_c, power_w]);
    }
    setGpuVersion((now) => now + 1);
  }

  function takeSnapshot(next: Snapshot) {
    const before = snapshot();
    setSnapshot(next);
    if (!before || settled(before) !== settled(next)) void loadModels();
  }

  function onEvent(name: string, data: unknown) {
    if (name === "snapshot") takeSnapshot(data as Snapshot);
    else if (name === "gpu") takeGpu(data as Gpu);
    else if (name === "live") takeLive(data as Live);
    else if (name === "notice") takeNotice(data as Notice);
  }

  const seen: string[] = [];

  /** A notice, which any stream may bring; what the window itself says comes with one of them only. */
  function takeNotice(notice: Notice) {
    const key = JSON.stringify([notice.at, notice.level, notice.message]);
    if (seen.includes(key)) return;
    seen.push(key);
    if (seen.length > NOTICES) seen.shift();
    toast(notice.level, notice.message, notice.error ?? null);
  }

  function onState(state: StreamState) {
    if (state.open) setConnection({ state: "open" });
    else if (state.failure.status === 401) setConnection({ state: "unauthorized" });
    else setConnection({ state: "lost", failure: state.failure, retryAt: state.retryAt });
  }

  function watch(readings: Readings, take: (reading: unknown) => void, opened?: () => void) {
    return platform.events(
      readings,
      (name, data) => {
        if (name === readings) take(data);
        else if (name === "notice") takeNotice(data as Notice);
      },
      (state) => state.open && opened?.(),
    );
  }

  const stream = platform.events(null, onEvent, onState);

  /** Runs an action; where it fails, that is said. Answers whether it went well. */
  async function attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      const failure = asFailure(error);
      if (failure.status === 401) setConnection({ state: "unauthorized" });
      const { code, message, hint, log } = failure;
      toast("error", message, { code, message, hint, log });
      return false;
    }
  }

  return {
    platform,
    snapshot,
    connection,
    models,
    loadModels,
    toasts,
    toast,
    dismiss,
    attempt,
    gpu,
    gpuSeries,
    /** Another number whenever a series has changed. */
    gpuVersion,
    live,
    liveSeries,
    /** Readings of what goes on, as long as somebody looks. */
    watchLive: () => watch("live", (reading) => takeLive(reading as Live)),
    /** One reading of what goes on. */
    readLive: async () => takeLive(await platform.get("/live")),
    /** Readings of the GPUs, as long as somebody looks, and those before. */
    watchGpu: () => watch("gpu", (reading) => takeGpu(reading as Gpu), loadGpuHistory),
    /** One reading of the GPUs. */
    readGpu: async () => takeGpu(await platform.get("/gpu")),
    retry: () => stream.retry(),
    stop: () => stream.stop(),
    /** A model's name, or its id where the catalog has lost it. */
    modelName: (id: string) => models.list.find((model) => model.id === id)?.name ?? id,
  };
}

function inGib(bytes: number | null): number | null {
  return bytes == null ? null : bytes / 2 ** 30;
}

/** What a change of makes the list of models another one. */
function settled(snapshot: Snapshot): string {
  return JSON.stringify([snapshot.phase, snapshot.model, snapshot.catalog, snapshot.engine?.config_changed]);
}

export type Corral = ReturnType<typeof createCorral>;

export const CorralContext = createContext<Corral>();

/** The state of all views. */
export function useCorral(): Corral {
  const corral = useContext(CorralContext);
  if (!corral) throw new Error("there is no Corral above this component");
  return corral;
}
