// How values are shown. All of it is pure; the locale is English, as the texts are.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** What stands where there is no value. */
export const NONE = "–";

/** Bytes in binary units, three digits: `5.42 GiB`. */
export function bytes(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${rest} B`;
  const digits = rest >= 100 ? 0 : rest >= 10 ? 1 : 2;
  return `${rest.toFixed(digits)} ${UNITS[unit]}`;
}

/** A whole number with separators: `131,072`. */
export function count(value: number | null | undefined): string {
  return value == null || !Number.isFinite(value) ? NONE : WHOLE.format(value);
}

/** A number of tokens in at most four characters and a unit: `812`, `65.5k`, `1.2M`. */
export function tokens(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  if (value < 1000) return `${Math.round(value)}`;
  for (const [size, name] of [
    [1e3, "k"],
    [1e6, "M"],
    [1e9, "G"],
  ] as const) {
    const part = value / size;
    if (part < 999.5 || name === "G") return `${part < 99.95 ? trim(part.toFixed(1)) : part.toFixed(0)}${name}`;
  }
  return NONE;
}

/** A context size as people call it: `4k`, `64k`, `128k` for powers of two, else as `tokens`. */
export function context(value: number): string {
  if (value >= 1024 && value % 1024 === 0) return `${value / 1024}k`;
  return tokens(value);
}

/** A rate: `42.1`, `812`. */
export function rate(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  return value >= 100 ? WHOLE.format(value) : value.toFixed(1);
}

/** A share of 0 to 1 as a percentage. */
export function percent(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  return `${Math.round(value * 100)} %`;
}

/** A duration in its two largest units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`. */
export function duration(ms: number | null | undefined): string {
  if (ms == null || !Number.isFinite(ms)) return NONE;
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86_400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86_400, "d", 3600, "h");
}

/** An amount of energy in watt-hours, the unit of electricity meters; less than that in joules: `1.2 kWh`, `0.8 Wh`, `42 J`. */
export function energy(joules: number | null | undefined): string {
  if (joules == null || !Number.isFinite(joules)) return NONE;
  const hours = joules / 3600;
  if (hours >= 999.95) return `${(hours / 1000).toFixed(2)} kWh`;
  if (hours >= 0.1) return `${hours.toFixed(1)} Wh`;
  return `${joules.toFixed(joules >= 9.95 ? 0 : 1)} J`;
}

/** An amount of money, to digits that say something: `12.30 EUR`, `0.0042 EUR`. */
export function money(amount: number | null | undefined, currency: string): string {
  if (amount == null || !Number.isFinite(amount)) return NONE;
  const digits = amount >= 0.01 || amount === 0 ? 2 : amount >= 0.0001 ? 4 : 6;
  return `${amount.toFixed(digits)} ${currency}`.trimEnd();
}

/** How long ago: `just now`, `5 min ago`, `3 h ago`, `2 d ago`. */
export function ago(then: string | number, now: number): string {
  const ms = now - new Date(then).getTime();
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 45_000) return "just now";
  if (ms < 3_570_000) return `${Math.round(ms / 60_000)} min ago`;
  if (ms < 86_100_000) return `${Math.round(ms / 3_600_000)} h ago`;
  return `${Math.round(ms / 86_400_000)} d ago`;
}

/** The time of day with milliseconds, in the browser's zone: `14:03:07.120`. */
export function clock(ts: string | number): string {
  const date = new Date(ts);
  if (Number.isNaN(date.getTime())) return `${ts}`;
  const pad = (value: number, width = 2) => value.toString().padStart(width, "0");
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return `${time}.${pad(date.getMilliseconds(), 3)}`;
}

/** `one`, or with the number: `1 model`, `3 models`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** The last part of a path. */
export function baseName(path: string): string {
  return path.replace(/\/+$/, "").split("/").pop() || path;
}

function trim(text: string): string {
  return text.replace(/\.0$/, "");
}

function two(value: number, large: number, largeName: string, small: number, smallName: string): string {
  const first = Math.floor(value / large);
  const rest = Math.floor((value - first * large) / small);
  return rest ? `${first} ${largeName} ${rest} ${smallName}` : `${first} ${largeName}`;
}
