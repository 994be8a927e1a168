import { createEffect, createSignal, For, on, onCleanup, Show } from "solid-js";
import { asFailure, type Failure } from "../lib/failure";
import { baseName, bytes, NONE, percent } from "../lib/format";
import { Series } from "../lib/series";
import { Chart, type Line } from "../parts/chart";
import { Failed, Loading, Nothing } from "../parts/states";
import { View } from "../parts/view";
import { GPU_SPAN, useCorral } from "../state/corral";
import type { GpuDevice } from "../types";

export function GpuView() {
  const corral = useCorral();
  const [failure, setFailure] = createSignal<Failure | null>(null);
  const [absent, setAbsent] = createSignal(false);
  let newest = 0;
  createEffect(
    on(corral.gpu, (reading) => {
      if (reading) newest = Date.now();
    }),
  );

  const load = async () => {
    try {
      const reading = await corral.platform.get("/gpu");
      corral.takeGpu(reading);
      setFailure(null);
      setAbsent(false);
    } catch (error) {
      const failed = asFailure(error);
      setAbsent(failed.status === 404);
      setFailure(failed.status === 404 ? null : failed);
    }
  };
  void load();
  // Readings come as events; where none come, they are asked for.
  const timer = setInterval(() => !absent() && Date.now() - newest > 1800 && void load(), 1000);
  onCleanup(() => clearInterval(timer));

  const devices = () => corral.gpu()?.devices ?? [];
  return (
    <View title="GPU" note={devices().length ? "The last 15 minutes" : undefined}>
      <Show when={!failure() || corral.gpu()} fallback={<Failed error={failure()!} retry={load} />}>
        <Show
          when={!absent()}
          fallback={
            <Nothing icon="gpu" title="No GPU readings">
              <p>This Corral does not read GPUs. Models run all the same; their log says what they use.</p>
            </Nothing>
          }
        >
          <Show when={corral.gpu()} fallback={<Loading what="Reading the GPUs" />}>
            {(reading) => (
              <Show
                when={devices().length}
                fallback={
                  <Nothing icon="gpu" title="There is no GPU here">
                    <p>{reading().reason ?? "No GPU that can be read was found."}</p>
                    <p class="muted">Models run on the processor.</p>
                  </Nothing>
                }
              >
                <For each={devices().map((device) => device.uuid)}>
                  {(uuid) => <Device device={devices().find((device) => device.uuid === uuid)!} />}
                </For>
              </Show>
            )}
          </Show>
        </Show>
      </Show>
    </View>
  );
}

function Device(props: { device: GpuDevice }) {
  const corral = useCorral();
  const device = () => corral.gpu()?.devices.find((one) => one.uuid === props.device.uuid) ?? props.device;
  const series = () => corral.gpuSeries.get(props.device.uuid) ?? new Series(4, GPU_SPAN, 5);
  const total = () => (device().mem_total_bytes ?? 0) / 2 ** 30;
  const processes = () => [...device().processes].sort((a, b) => (b.mem_bytes ?? 0) - (a.mem_bytes ?? 0));
  const free = () => {
    const { mem_used_bytes: used, mem_total_bytes: all } = device();
    return used == null || all == null ? null : all - used;
  };
  return (
    <article class="card device" aria-label={device().name}>
      <header class="device-head">
        <h2>{device().name}</h2>
        <span class="muted">
          GPU {device().index}
          <Show when={free() !== null}> · {bytes(free())} free</Show>
        </span>
      </header>
      <div class="readings">
        <Reading
          name="Utilisation"
          value={whole(device().util_percent, "%")}
          column={0}
          series={series()}
          max={100}
          fixed
          color="--accent"
          unit="%"
        />
        <Reading
          name="Memory"
          value={bytes(device().mem_used_bytes)}
          of={bytes(device().mem_total_bytes)}
          column={1}
          series={series()}
          max={total() || 1}
          fixed={total() > 0}
          color="--accent"
          unit="GiB"
        />
        <Reading
          name="Temperature"
          value={whole(device().temperature_c, "°C")}
          column={2}
          series={series()}
          max={100}
          color="--accent"
          unit="°C"
        />
        <Reading
          name="Power"
          value={whole(device().power_w, "W")}
          column={3}
          series={series()}
          max={100}
          color="--accent"
          unit="W"
        />
      </div>
      <h3>Who holds the memory</h3>
      <Show when={processes().length} fallback={<p class="muted">No process holds memory of this GPU.</p>}>
        <table class="listing">
          <thead>
            <tr>
              <th scope="col">Process</th>
              <th scope="col">Model</th>
              <th scope="col">Container</th>
              <th scope="col" class="number">
                Process id
              </th>
              <th scope="col" class="number">
                Memory
              </th>
              <th scope="col" class="number">
                Share
              </th>
            </tr>
          </thead>
          <tbody>
            <For each={processes()}>
              {(process) => (
                <tr>
                  <td class="clip" title={process.name ?? undefined}>
                    {process.name ? baseName(process.name) : NONE}
                  </td>
                  <td>{process.model ? corral.modelName(process.model) : NONE}</td>
                  <td class="clip">
                    <code>{process.container?.slice(0, 12) ?? NONE}</code>
                  </td>
                  <td class="number">{process.pid}</td>
                  <td class="number">{bytes(process.mem_bytes)}</td>
                  <td class="number">
                    {percent(device().mem_total_bytes ? (process.mem_bytes ?? 0) / device().mem_total_bytes! : null)}
                  </td>
                </tr>
              )}
            </For>
          </tbody>
        </table>
      </Show>
    </article>
  );
}

function Reading(props: {
  name: string;
  value: string;
  of?: string;
  column: number;
  series: Series;
  max: number;
  fixed?: boolean;
  color: string;
  unit: string;
}) {
  const corral = useCorral();
  const lines: Line[] = [
    { label: props.name, color: props.color, fill: true, format: (value) => whole(value, props.unit) },
  ];
  const data = () => {
    const columns = props.series.data();
    return [columns[0], columns[props.column + 1]] as [number[], (number | null)[]];
  };
  const [version, setVersion] = createSignal(0);
  createEffect(on(corral.gpu, () => setVersion((now) => now + 1)));
  return (
    <figure class="reading">
      <figcaption>
        <span class="muted">{props.name}</span>
        <span class="value">
          {props.value}
          <Show when={props.of}>
            <span class="muted"> of {props.of}</span>
          </Show>
        </span>
      </figcaption>
      <Chart
        label={`${props.name} over the last 15 minutes, now ${props.value}`}
        lines={lines}
        data={data}
        version={version}
        height={7}
        span={GPU_SPAN}
        max={props.max}
        fixed={props.fixed}
        axis={(value) => `${Math.round(value)}`}
      />
    </figure>
  );
}

function whole(value: number | null | undefined, unit: string): string {
  return value == null ? NONE : `${Math.round(value)} ${unit}`;
}
