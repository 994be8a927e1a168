// What a daemon that reads GPUs tells of them. Not part of its description yet.

export interface GpuDevice {
  index: number;
  uuid: string;
  name: string;
  util_percent: number | null;
  mem_used_bytes: number | null;
  mem_total_bytes: number | null;
  temperature_c: number | null;
  power_w: number | null;
  processes: {
    pid: number;
    name: string | null;
    mem_bytes: number | null;
    container: string | null;
    model: string | null;
  }[];
}

/** One reading of the GPUs. */
export interface Gpu {
  source: string;
  reason?: string | null;
  devices: GpuDevice[];
}
