import { createEffect, createSignal, on, onCleanup, Show } from "solid-js";
import { Dynamic } from "solid-js/web";
import { readRoute, VIEWS, type View } from "./lib/route";
import { Banner, ComeInAgain, Navigation, Shortcuts, TITLES, Toasts } from "./parts/shell";
import { type Corral, CorralContext } from "./state/corral";
import { GpuView } from "./views/gpu";
import { HealthView } from "./views/health";
import { LiveView } from "./views/live";
import { LogsView } from "./views/logs";
import { ModelsView } from "./views/models";
import { SettingsView } from "./views/settings";
import { UsageView } from "./views/usage";

const COMPONENTS: Record<View, (props: { part: string }) => ReturnType<typeof ModelsView>> = {
  models: ModelsView,
  gpu: GpuView,
  live: LiveView,
  logs: LogsView,
  usage: UsageView,
  settings: SettingsView,
  health: HealthView,
};

/** Whether keys belong to what has the focus. */
function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && !!target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select")
  );
}

export function App(props: { corral: Corral }) {
  const [route, setRoute] = createSignal(readRoute(location.hash));
  const [help, setHelp] = createSignal(false);

  const moved = () => setRoute(readRoute(location.hash));
  addEventListener("hashchange", moved);
  onCleanup(() => removeEventListener("hashchange", moved));

  const view = () => route().view;
  createEffect(on(view, (now) => (document.title = `${TITLES[now]} – Corral`)));
  // Who goes to a view by keyboard or screen reader begins at its heading.
  createEffect(on(view, () => document.getElementById("view-title")?.focus({ preventScroll: true }), { defer: true }));

  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const place = Number.parseInt(event.key, 10);
    if (place >= 1 && place <= VIEWS.length) location.hash = VIEWS[place - 1];
    else if (event.key === "?") setHelp(true);
    else if (event.key === "Escape" && props.corral.toasts().length)
      props.corral.dismiss(props.corral.toasts().at(-1)!.id);
    else if (event.key === "/") document.querySelector<HTMLInputElement>("[data-search]")?.focus();
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", onKey);
  onCleanup(() => removeEventListener("keydown", onKey));

  return (
    <CorralContext.Provider value={props.corral}>
      <Show when={props.corral.connection().state !== "unauthorized"} fallback={<ComeInAgain />}>
        <button type="button" class="skip" onClick={() => document.getElementById("view-title")?.focus()}>
          Skip to the content
        </button>
        <div class="stage">
          <div class="frame">
            <Navigation view={view()} onHelp={() => setHelp(true)} />
            <main tabIndex={0}>
              <Banner />
              <Dynamic component={COMPONENTS[view()]} part={route().part} />
            </main>
          </div>
        </div>
        <Toasts />
        <Show when={help()}>
          <Shortcuts onClose={() => setHelp(false)} />
        </Show>
      </Show>
    </CorralContext.Provider>
  );
}
