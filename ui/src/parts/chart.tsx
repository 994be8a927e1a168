import { createEffect, onCleanup, onMount } from "solid-js";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

/** One line or column of a chart. */
export interface Line {
  label: string;
  /** A custom property that names its colour. */
  color: string;
  fill?: boolean;
  bars?: boolean;
  format: (value: number | null) => string;
}

type Data = [number[], ...(number | null)[][]];

interface Props {
  label: string;
  lines: Line[];
  /** Columns, times first; read again whenever `version` changes. */
  data: () => Data;
  version: () => unknown;
  /** In rem. */
  height: number;
  /** Seconds that are shown up to now; without it, the days that the data spans. */
  span?: number;
  /** The least upper end of the scale; it grows with the data. */
  max?: number;
  /** Whether the scale ends there whatever comes. */
  fixed?: boolean;
  /** What a value at the axis is called. */
  axis?: (value: number) => string;
  legend?: boolean;
}

/** A chart of readings over time, in the colours of the page. */
export function Chart(props: Props) {
  let box!: HTMLDivElement;
  let plot: uPlot | undefined;

  const color = (name: string) => getComputedStyle(box).getPropertyValue(name).trim();
  const rem = () => Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  const size = () => ({ width: Math.max(120, box.clientWidth), height: props.height * rem() });

  const make = () => {
    plot?.destroy();
    const grid = { stroke: color("--line"), width: 1 };
    const axis: uPlot.Axis = {
      stroke: color("--muted"),
      font: `${0.6875 * rem()}px ${getComputedStyle(box).fontFamily}`,
      grid,
      ticks: { show: false },
    };
    const bars = uPlot.paths.bars!({ size: [0.64, 44], align: 0 });
    plot = new uPlot(
      {
        ...size(),
        padding: [8, 8, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
        legend: { show: props.legend ?? false, live: true },
        scales: {
          x: {
            time: true,
            // Of a single column uPlot would make a scale of years.
            range: () => {
              const now = Date.now() / 1000;
              if (props.span) return [now - props.span, now];
              const times = props.data()[0];
              return [(times[0] ?? now) - 43_200, (times.at(-1) ?? now) + 43_200];
            },
          },
          y: {
            range: (_, __, max) => {
              const least = props.max ?? 1;
              if (props.fixed || !Number.isFinite(max)) return [0, least];
              return [0, Math.max(least, (max ?? 0) * 1.1)];
            },
          },
        },
        axes: [
          {
            ...axis,
            size: 1.75 * rem(),
            space: 4.5 * rem(),
            grid: { show: false },
            values: (self, splits) => {
              // What would be cut off at the end is left out.
              const { min = 0, max = 0 } = self.scales.x;
              const last = max - ((max - min) / self.width) * 1.5 * rem();
              return splits.map((at) => (at > last ? "" : props.span ? moment(at, props.span > 600) : day(at)));
            },
            incrs: !props.span ? [1, 2, 7, 14, 30, 91, 182, 365].map((days) => days * 86_400) : undefined,
          },
          {
            ...axis,
            size: 3.25 * rem(),
            space: 2.25 * rem(),
            splits: props.fixed ? () => [0, (props.max ?? 1) / 2, props.max ?? 1] : undefined,
            values: (_, splits) => splits.map((value) => props.axis?.(value) ?? `${value}`),
          },
        ],
        series: [
          {
            label: !props.span ? "Day" : "Time",
            value: (_, at) => (at == null ? "–" : props.span ? moment(at) : day(at)),
          },
          ...props.lines.map((line) => ({
            label: line.label,
            stroke: line.bars ? undefined : color(line.color),
            fill: line.bars ? color(line.color) : line.fill ? `${color(line.color)}1f` : undefined,
            width: line.bars ? 0 : 1.5,
            paths: line.bars ? bars : undefined,
            points: { show: false },
            value: (_: uPlot, value: number | null) => line.format(value),
          })),
        ],
      },
      props.data() as uPlot.AlignedData,
      box,
    );
  };

  onMount(() => {
    make();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", make);
    let text = rem();
    const resized = new ResizeObserver(() => {
      // Its texts have a size in pixels, so that larger text needs another chart.
      if (rem() !== text) make();
      else plot?.setSize(size());
      text = rem();
    });
    resized.observe(box);
    onCleanup(() => {
      scheme.removeEventListener("change", make);
      resized.disconnect();
      plot?.destroy();
    });
  });
  createEffect(() => {
    props.version();
    plot?.setData(props.data() as uPlot.AlignedData);
  });

  return <div class="chart" classList={{ legend: props.legend }} ref={box} role="img" aria-label={props.label} />;
}

function day(at: number): string {
  return new Date(at * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

function moment(at: number, short = false): string {
  const second = short ? undefined : "2-digit";
  return new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second });
}
