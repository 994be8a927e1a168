import { For, onCleanup, Show } from "solid-js";
import { Portal } from "solid-js/web";
import { Button } from "../parts/controls";
import { SelectField, SwitchField, TextField } from "../parts/fields";
import { Loading, Problem } from "../parts/states";
import { useCorral } from "../state/corral";
import type { Fields, Form } from "../state/form";

const RUNTIMES: { value: Fields["runtime"]; name: string }[] = [
  { value: "docker", name: "Docker container" },
  { value: "process", name: "Process on this machine" },
];
const SWITCHES: { value: Fields["auto_switch"]; name: string }[] = [
  { value: "always", name: "Every request" },
  { value: "sessions", name: "Requests of sessions" },
  { value: "never", name: "None" },
];
const NOTIFICATIONS: { value: Fields["notifications"]; name: string }[] = [
  { value: "all", name: "All" },
  { value: "problems", name: "Problems only" },
  { value: "none", name: "None" },
];
const ENDS: { value: Fields["on_quit"]; name: string }[] = [
  { value: "stop", name: "Stop the model" },
  { value: "keep", name: "Leave the model running" },
];

/** The settings, a field each. */
export function General(props: { form: Form; actions: HTMLElement }) {
  const corral = useCorral();
  const form = props.form;
  void form.load();

  const save = async () => {
    if (!form.dirty()) return;
    if (await form.save()) corral.toast("info", "The settings are saved");
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void save();
  };
  addEventListener("keydown", onKey);
  onCleanup(() => removeEventListener("keydown", onKey));

  const choose = () =>
    corral.attempt(async () => {
      const folder = await corral.platform.chooseFolder!();
      if (folder) form.set("models_dir", folder);
    });
  const readOnly = () => form.settings()?.writable === false;

  return (
    <>
      <Portal mount={props.actions} ref={(element) => element.classList.add("actions")}>
        <Show when={form.dirty()}>
          <span class="muted">Not saved yet</span>
          <Button onClick={form.discard}>Discard</Button>
        </Show>
        <Button kind="primary" disabled={!form.dirty() || form.saving()} onClick={save}>
          Save
        </Button>
      </Portal>
      <div role="alert" class="failures">
        <For each={form.failures()}>
          {(failure) => (
            <div class="card failed">
              <Problem error={failure}>
                <Show when={!form.loaded()}>
                  <Button icon="refresh" onClick={form.load}>
                    Try again
                  </Button>
                </Show>
              </Problem>
            </div>
          )}
        </For>
      </div>
      <Show when={form.settings()?.problem}>
        {(problem) => (
          <div class="card failed">
            <Problem error={problem()} />
          </div>
        )}
      </Show>
      <Show when={readOnly()}>
        <p class="strip warn">
          {form.settings()!.path} cannot be written, so that the settings below cannot be changed here.
        </p>
      </Show>
      <Show
        when={form.catalog()}
        fallback={<Show when={!form.failures().length}>{<Loading what="Reading the settings" />}</Show>}
      >
        <section class="card group" aria-labelledby="engine-settings">
          <h2 id="engine-settings">What runs the models</h2>
          <p class="hint">Written to models.toml; the next start of a model uses it.</p>
          <SelectField
            label="Engine"
            choices={RUNTIMES}
            value={form.value("runtime")!}
            changed={form.isChanged("runtime")}
            onChoose={(value) => form.set("runtime", value)}
          />
          <Show
            when={form.value("runtime") === "docker"}
            fallback={
              <TextField
                label="Program"
                hint="llama-server: a name found in PATH, or a path"
                value={form.value("binary")!}
                changed={form.isChanged("binary")}
                onInput={(value) => form.set("binary", value)}
              />
            }
          >
            <TextField
              label="Image"
              hint="server-cuda13 for NVIDIA, server-vulkan, server-rocm; server runs on every processor"
              value={form.value("image")!}
              changed={form.isChanged("image")}
              onInput={(value) => form.set("image", value)}
            />
          </Show>
          <TextField
            label="Models folder"
            hint="What the files in models.toml are relative to"
            value={form.value("models_dir")!}
            changed={form.isChanged("models_dir")}
            onInput={(value) => form.set("models_dir", value)}
            beside={
              <Show when={corral.platform.chooseFolder}>
                <Button icon="folder" onClick={choose}>
                  Choose
                </Button>
              </Show>
            }
          />
          <SelectField
            label="May load another model"
            hint="Whose requests switch to the model that they name"
            choices={SWITCHES}
            value={form.value("auto_switch")!}
            changed={form.isChanged("auto_switch")}
            onChoose={(value) => form.set("auto_switch", value)}
          />
        </section>
      </Show>
      <Show when={form.settings()}>
        {(settings) => (
          <section class="card group" aria-labelledby="desktop-settings">
            <h2 id="desktop-settings">On the desktop</h2>
            <p class="hint">Written to {settings().path}.</p>
            <Show when={form.autostart()}>
              {(autostart) => (
                <SwitchField
                  label="Launch at login"
                  hint={
                    <Show
                      when={autostart().command}
                      fallback="There is no Corral for the desktop here that could be launched"
                    >
                      Starts hidden, with an entry at {autostart().path}
                    </Show>
                  }
                  disabled={!autostart().command && !autostart().enabled}
                  value={form.value("autostart")!}
                  changed={form.isChanged("autostart")}
                  onSet={(value) => form.set("autostart", value)}
                />
              )}
            </Show>
            <SwitchField
              label="Load the last model at launch"
              hint="When Corral is launched at login"
              disabled={readOnly()}
              value={form.value("restore_last")!}
              changed={form.isChanged("restore_last")}
              onSet={(value) => form.set("restore_last", value)}
            />
            <SelectField
              label="When Corral ends"
              choices={ENDS}
              disabled={readOnly()}
              value={form.value("on_quit")!}
              changed={form.isChanged("on_quit")}
              onChoose={(value) => form.set("on_quit", value)}
            />
            <SelectField
              label="Notifications"
              choices={NOTIFICATIONS}
              disabled={readOnly()}
              value={form.value("notifications")!}
              changed={form.isChanged("notifications")}
              onChoose={(value) => form.set("notifications", value)}
            />
            <TextField
              label="Terminal"
              hint="What a local Claude opens in; empty takes the desktop's"
              placeholder="the desktop's"
              disabled={readOnly()}
              value={form.value("terminal")!}
              changed={form.isChanged("terminal")}
              onInput={(value) => form.set("terminal", value)}
            />
            <TextField
              label="Price of a kilowatt-hour"
              hint="For the cost of requests, where the GPU tells what it takes: a number and a currency"
              placeholder="0.32 EUR"
              disabled={readOnly()}
              value={form.value("electricity_price")!}
              changed={form.isChanged("electricity_price")}
              onInput={(value) => form.set("electricity_price", value)}
            />
          </section>
        )}
      </Show>
    </>
  );
}
