import type { JSX } from "solid-js";

// Drawn on a grid of 16, lines 1.5 wide.
const SHAPES = {
  models: () => (
    <>
      <path d="M8 1.8 14 5 8 8.2 2 5z" />
      <path d="m2 8 6 3.2L14 8" />
      <path d="m2 11 6 3.2 6-3.2" />
    </>
  ),
  gpu: () => (
    <>
      <rect x="4" y="4" width="8" height="8" rx="1.2" />
      <path d="M6.5 1.5V4M9.5 1.5V4M6.5 12v2.5M9.5 12v2.5M1.5 6.5H4M1.5 9.5H4M12 6.5h2.5M12 9.5h2.5" />
    </>
  ),
  live: () => <path d="M1.5 8.5h3l2-5.5 3 10 2-4.5h3" />,
  logs: () => <path d="M2.5 3.5h11M2.5 6.5h7M2.5 9.5h11M2.5 12.5h5" />,
  usage: () => <path d="M2.5 13.5v-5M6.2 13.5v-9M9.8 13.5v-6M13.5 13.5v-11" />,
  settings: () => (
    <>
      <path d="M2 4.5h6.5M12 4.5h2M2 11.5h2M7.5 11.5H14" />
      <circle cx="10.2" cy="4.5" r="1.8" />
      <circle cx="5.7" cy="11.5" r="1.8" />
    </>
  ),
  health: () => (
    <>
      <path d="M8 14.2c-3.6-1.3-5.5-3.7-5.5-7V3.6L8 1.8l5.5 1.8v3.6c0 3.3-1.9 5.7-5.5 7z" />
      <path d="m5.6 7.8 1.8 1.8 3.2-3.3" />
    </>
  ),
  play: () => <path d="M4.5 2.8v10.4l8.5-5.2z" />,
  stop: () => <rect x="3.5" y="3.5" width="9" height="9" rx="1" />,
  pause: () => <path d="M5 3v10M11 3v10" />,
  switch: () => <path d="M2 5.5h11M10 2.5l3 3-3 3M14 10.5H3M6 7.5l-3 3 3 3" />,
  search: () => (
    <>
      <circle cx="7" cy="7" r="4.5" />
      <path d="m10.5 10.5 3.5 3.5" />
    </>
  ),
  copy: () => (
    <>
      <rect x="5.5" y="5.5" width="8" height="8.5" rx="1.2" />
      <path d="M10.5 5.5V3.2c0-.7-.5-1.2-1.2-1.2H3.7c-.7 0-1.2.5-1.2 1.2v6.1c0 .7.5 1.2 1.2 1.2h1.8" />
    </>
  ),
  check: () => <path d="m2.5 8.5 3.5 3.5 7.5-8" />,
  close: () => <path d="m3.5 3.5 9 9M12.5 3.5l-9 9" />,
  warning: () => (
    <>
      <path d="M8 2 1.5 13.5h13z" />
      <path d="M8 6.3v3.4M8 11.6v.1" />
    </>
  ),
  error: () => (
    <>
      <circle cx="8" cy="8" r="6.2" />
      <path d="M8 4.8v4M8 11v.1" />
    </>
  ),
  ok: () => (
    <>
      <circle cx="8" cy="8" r="6.2" />
      <path d="m5.2 8.2 2 2 3.6-4" />
    </>
  ),
  half: () => (
    <>
      <circle cx="8" cy="8" r="6.2" />
      <path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" fill="currentColor" />
    </>
  ),
  no: () => (
    <>
      <circle cx="8" cy="8" r="6.2" />
      <path d="m5.6 5.6 4.8 4.8M10.4 5.6l-4.8 4.8" />
    </>
  ),
  refresh: () => <path d="M13.5 8A5.5 5.5 0 1 1 11.7 4M13.5 1.8v3h-3" />,
  down: () => <path d="M8 2v11M3.5 8.5 8 13l4.5-4.5" />,
  download: () => <path d="M8 2v7.5M4.5 6.5 8 10l3.5-3.5M2.5 13.5h11" />,
  terminal: () => (
    <>
      <rect x="1.5" y="2.5" width="13" height="11" rx="1.5" />
      <path d="m4.5 6 2.2 2-2.2 2M8.5 10.2h3" />
    </>
  ),
  folder: () => <path d="M1.8 12.8V3.5h4.4l1.5 1.8h6.5v7.5z" />,
  unplugged: () => <path d="M2 14l3-3M6 4.8 3.8 7a2.6 2.6 0 0 0 0 3.7l1.5 1.5a2.6 2.6 0 0 0 3.7 0L11.2 10M14 2l-3 3" />,
} satisfies Record<string, () => JSX.Element>;

export type IconName = keyof typeof SHAPES;

/** A drawing beside a text that says the same; nothing to a screen reader. */
export function Icon(props: { name: IconName; class?: string }) {
  return (
    <svg class={`icon ${props.class ?? ""}`} viewBox="0 0 16 16" aria-hidden="true">
      {SHAPES[props.name]()}
    </svg>
  );
}
