import { createSignal } from "solid-js";
import { asFailure, type Failure } from "../lib/failure";
import { readTerminal, terminalText } from "../lib/terminal";
import type { Platform } from "../platform";
import type { Autostart, Catalog, Settings, SettingsAnswer } from "../types";

/** The fields, as they are shown. */
export interface Fields {
  runtime: Catalog["engine"]["runtime"];
  image: string;
  binary: string;
  models_dir: string;
  auto_switch: Catalog["server"]["auto_switch"];
  autostart: boolean;
  restore_last: boolean;
  notifications: Settings["notifications"];
  terminal: string;
  electricity_price: string;
  on_quit: Settings["on_quit"];
}

const ENGINE = ["runtime", "image", "binary", "models_dir"] as const;
const SETTINGS = ["restore_last", "notifications", "terminal", "electricity_price", "on_quit"] as const;

/** The settings as fields, over three routes. It outlives its view, so that nothing typed is lost. */
export function createForm(platform: Platform) {
  const [settings, setSettings] = createSignal<SettingsAnswer | null>(null);
  const [catalog, setCatalog] = createSignal<Catalog | null>(null);
  const [autostart, setAutostart] = createSignal<Autostart | null>(null);
  const [changes, setChanges] = createSignal<Partial<Fields>>({});
  const [failures, setFailures] = createSignal<Failure[]>([]);
  const [saving, setSaving] = createSignal(false);

  /** The fields as they are on disk; none of a route that did not answer. */
  const saved = (): Partial<Fields> => {
    const known = settings()?.settings;
    return {
      ...(catalog() ? { ...catalog()!.engine, auto_switch: catalog()!.server.auto_switch } : {}),
      ...(autostart() ? { autostart: autostart()!.enabled } : {}),
      ...(known
        ? {
            restore_last: known.restore_last,
            notifications: known.notifications,
            terminal: terminalText(known.terminal),
            electricity_price: known.electricity_price ?? "",
            on_quit: known.on_quit,
          }
        : {}),
    };
  };

  const isChanged = (name: keyof Fields) => name in changes() && changes()[name] !== saved()[name];
  const changed = () => (Object.keys(changes()) as (keyof Fields)[]).filter(isChanged);

  function forget(names: readonly (keyof Fields)[]) {
    setChanges((now) =>
      Object.fromEntries(Object.entries(now).filter(([name]) => !names.includes(name as keyof Fields))),
    );
  }

  /** Does one of several things; what fails is kept to be shown, and does not keep the others from being done. */
  async function each(steps: (() => Promise<void>)[]) {
    const failed: Failure[] = [];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        const failure = asFailure(error);
        // Where Corral is gone, all of them say the same.
        if (!failed.some((other) => other.message === failure.message)) failed.push(failure);
      }
    }
    setFailures(failed);
    return failed.length === 0;
  }

  async function saveCatalog() {
    const names = [...ENGINE, "auto_switch" as const].filter(isChanged);
    if (!names.length) return;
    const now = changes();
    const engine = Object.fromEntries(ENGINE.filter(isChanged).map((name) => [name, now[name]]));
    const server = isChanged("auto_switch") ? { auto_switch: now.auto_switch } : {};
    setCatalog(await platform.patch("/catalog", { engine, server }));
    forget(names);
  }

  async function saveSettings() {
    const names = SETTINGS.filter(isChanged);
    const before = settings();
    if (!names.length || !before) return;
    const { terminal, electricity_price, ...rest } = Object.fromEntries(
      names.map((name) => [name, changes()[name]]),
    ) as Partial<Fields>;
    const next: Settings = { ...before.settings, ...rest };
    if (terminal !== undefined) {
      const meant = readTerminal(terminal);
      if (meant === null) delete next.terminal;
      else next.terminal = meant;
    }
    if (electricity_price?.trim()) next.electricity_price = electricity_price;
    else if (electricity_price !== undefined) delete next.electricity_price;
    setSettings(await platform.put("/settings", next));
    forget(names);
  }

  async function saveAutostart() {
    if (!isChanged("autostart")) return;
    setAutostart(await platform.put("/autostart", { enabled: changes().autostart! }));
    forget(["autostart"]);
  }

  return {
    settings,
    catalog,
    autostart,
    failures,
    saving,
    isChanged,
    dirty: () => changed().length > 0,
    /** Whether all routes have answered. */
    loaded: () => !!(settings() && catalog() && autostart()),
    value: <K extends keyof Fields>(name: K) => ({ ...saved(), ...changes() })[name] as Fields[K] | undefined,
    set: <K extends keyof Fields>(name: K, value: Fields[K]) => setChanges((now) => ({ ...now, [name]: value })),
    discard: () => setChanges({}),
    load: () =>
      each([
        async () => void setSettings(await platform.get("/settings")),
        async () => void setCatalog(await platform.get("/catalog")),
        async () => void setAutostart(await platform.get("/autostart")),
      ]),
    /** Writes what was changed; answers whether all of it is on disk now. */
    async save() {
      if (saving()) return false;
      setSaving(true);
      try {
        return await each([saveCatalog, saveSettings, saveAutostart]);
      } finally {
        setSaving(false);
      }
    },
  };
}

export type Form = ReturnType<typeof createForm>;
