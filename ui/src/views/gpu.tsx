import { createSignal, For, onCleanup, Show } from "solid-js";
import { asFailure, type Failure } from "../lib/failure";
import { baseName, bytes, count, NONE, percent } from "../lib/format";
import type { Series } from "../lib/series";
import { Chart, type Line } from "../parts/chart";
import { Failed, Loading, Nothing } from "../parts/states";
import { View } from "../parts/view";
import { createGpuSeries, GPU_SPAN, useCorral } from "../state/corral";
import type { GpuDevice } from "../types";

export function GpuView() {
  const corral = useCorral();
  const [failure, setFailure] = createSignal<Failure | null>(null);
  const stream = corral.watchGpu();
  onCleanup(() => stream.stop());
  const load = async () => {
    try {
      await corral.readGpu();
      setFailure(null);
    } catch (error) {
      setFailure(asFailure(error));
    }
  };
  void load();
  const retry = () => {
    stream.retry();
    void load();
  };

  const devices = () => corral.gpu()?.devices ?? [];
  return (
    <View
      title="GPU"
      note={devices().length ? "The last 15 minutes, while a model was loaded or somebody looked" : undefined}
    >
      <Show
        when={corral.gpu()}
        fallback={
          <Show when={failure()} fallback={<Loading what="Reading the GPUs" />}>
            {(error) => <Failed error={error()} retry={retry} />}
          </Show>
        }
      >
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
            <Show when={reading().reason}>{(reason) => <p class="muted">{reason()}</p>}</Show>
            <For each={devices().map((device) => device.uuid)}>
              {(uuid) => <Device device={devices().find((device) => device.uuid === uuid)!} />}
            </For>
          </Show>
        )}
      </Show>
    </View>
  );
}

/** What a state that is not `ok` is called. */
const STATES: Record<GpuDevice["state"], string> = {
  ok: "",
  asleep: "asleep",
  lost: "does not answer",
  denied: "not for this user",
  silent: "does not answer",
};

const THROTTLES: Record<NonNullable<GpuDevice["throttle"]>[number], string> = {
  idle: "",
  setting: "clocks set",
  power_cap: "power limit",
  thermal: "too hot",
  power_brake: "power supply",
  hardware: "hardware slowdown",
  sync_boost: "in step with others",
};

/** The smaller readings, in one line. */
function details({ clocks, pcie, power_limit_w, fan_percent, throttle }: GpuDevice): string {
  const slowed = (throttle ?? []).map((reason) => THROTTLES[reason]).filter(Boolean);
  const lanes = pcie.max_width != null && pcie.max_width !== pcie.width ? ` of x${pcie.max_width}` : "";
  const flow = (bytesPerSecond: number | null, way: string) =>
    bytesPerSecond != null && `${bytes(bytesPerSecond)}/s ${way}`;
  return [
    clocks.core_mhz != null && `${count(clocks.core_mhz)} MHz`,
    clocks.memory_mhz != null && `memory ${count(clocks.memory_mhz)} MHz`,
    power_limit_w != null && `at most ${Math.round(power_limit_w)} W`,
    fan_percent != null && `fan ${Math.round(fan_percent)} %`,
    pcie.generation != null && pcie.width != null && `PCIe ${pcie.generation} x${pcie.width}${lanes}`,
    flow(pcie.rx_bytes_per_second, "in"),
    flow(pcie.tx_bytes_per_second, "out"),
    slowed.length > 0 && `slowed: ${slowed.join(", ")}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** A driver keeps some memory for itself; more than that is somebody's of whom it does not tell. */
const OWN_BYTES = 2 ** 30;

function nobody(device: GpuDevice): string {
  if (device.state !== "ok" && device.state !== "asleep") return "Who holds its memory cannot be told now.";
  return (device.mem_used_bytes ?? 0) > OWN_BYTES
    ? "The driver does not say who holds it."
    : "No process holds memory of this GPU.";
}

function Device(props: { device: GpuDevice }) {
  const corral = useCorral();
  const device = () => corral.gpu()?.devices.find((one) => one.uuid === props.device.uuid) ?? props.device;
  const series = () => corral.gpuSeries.get(props.device.uuid) ?? createGpuSeries();
  const total = () => (device().mem_total_bytes ?? 0) / 2 ** 30;
  const processes = () => [...device().processes].sort((a, b) => (b.mem_bytes ?? 0) - (a.mem_bytes ?? 0));
  const free = () => device().mem_free_bytes;
  return (
    <article class="card device" aria-label={device().name}>
      <header class="device-head">
        <h2>{device().name}</h2>
        <span class="muted">
          GPU {device().index}
          <Show when={free() != null}> · {bytes(free())} free</Show>
          <Show when={device().mem_shared_bytes}>{(shared) => <> · {bytes(shared())} of it the machine's</>}</Show>
          <Show when={STATES[device().state]}>{(state) => <> · {state()}</>}</Show>
        </span>
      </header>
      <Show when={device().reason}>{(reason) => <p>{reason()}</p>}</Show>
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
      <Show when={details(device())}>{(line) => <p class="muted">{line()}</p>}</Show>
      <For each={device().parts}>
        {(part) => (
          <p>
            {part.name}: {bytes(part.mem_used_bytes)} of {bytes(part.mem_total_bytes)}
          </p>
        )}
      </For>
      <h3>Who holds the memory</h3>
      <Show when={processes().length} fallback={<p class="muted">{nobody(device())}</p>}>
        <table class="listing">
          <thead>
            <tr>
              <th scope="col">Process</th>
              <th scope="col">Model</th>
              <th scope="col">User</th>
              <th scope="col" class="detail">
                Container
              </th>
              <th scope="col" class="detail number">
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
                  <td>{process.user ?? NONE}</td>
                  <td class="clip detail">
                    <code>{process.container?.slice(0, 12) ?? NONE}</code>
                  </td>
                  <td class="detail number">{process.pid}</td>
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
        version={corral.gpuVersion}
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
