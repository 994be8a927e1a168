import type { OperationView, Phase, Step } from "../types";
import { bytes, duration } from "./format";

const STEPS: Record<Step, string> = {
  pull: "Pulling the image",
  prepare: "Preparing the new server",
  drain: "Letting running requests end",
  save: "Saving conversations",
  stop: "Stopping the old server",
  free: "Waiting for the GPU's memory",
  start: "Starting the server",
  load: "Loading the model",
  restore: "Bringing conversations back",
  pause: "Waiting before the next try",
  rollback: "Going back to the old model",
};

const PHASES: Record<Phase, string> = {
  stopped: "Stopped",
  pulling: "Pulling",
  starting: "Starting",
  loading: "Loading",
  ready: "Ready",
  draining: "Draining",
  stopping: "Stopping",
  failed: "Failed",
};

/** A phase as people read it. */
export function phaseName(phase: Phase): string {
  return PHASES[phase] ?? phase;
}

/** A step as people read it, with what it has done so far. */
export function stepName(operation: OperationView): string {
  const name = STEPS[operation.step] ?? operation.step;
  const progress = operation.progress;
  if (!progress) return name;
  const done = bytes(progress.done_bytes);
  return `${name}, ${progress.total_bytes ? `${done} of ${bytes(progress.total_bytes)}` : done}`;
}

/** What an operation does, with the models' names. */
export function title(operation: OperationView, name: (id: string) => string): string {
  const to = operation.to ? name(operation.to) : "";
  const from = operation.from ? name(operation.from) : "";
  switch (operation.kind) {
    case "stop":
    case "unload":
      return `Stopping ${from}`.trim();
    case "switch":
      return from && from !== to ? `Switching from ${from} to ${to}` : `Switching to ${to}`;
    case "restart":
      return `Starting ${to} again`;
    case "restore":
      return `Bringing ${to} back`;
    default:
      return `Starting ${to}`.trim();
  }
}

/** How far an operation is: a share where something is known, and the time in words. */
export function progress(operation: OperationView, now: number): { share: number | null; time: string } {
  const elapsed = Math.max(0, now - Date.parse(operation.started_at));
  const expected = operation.expected_ms;
  const part = operation.progress;
  if (part?.total_bytes) return { share: Math.min(1, part.done_bytes / part.total_bytes), time: duration(elapsed) };
  if (!expected) return { share: null, time: duration(elapsed) };
  const left = expected - elapsed;
  // What takes longer than expected is not shown as done.
  const share = Math.min(0.97, elapsed / expected);
  return { share, time: left > 0 ? `about ${duration(left)} left` : `${duration(elapsed)}, longer than usual` };
}
