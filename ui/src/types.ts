// Names for what the API's description (api.d.ts, generated) defines.
import type { components, paths } from "./api";

type Schemas = components["schemas"];

export type Paths = paths;
export type ErrorBody = Omit<Schemas["ErrorBody"], "code"> & { code: string };
export type LogLevel = Schemas["LogLevel"];
export type LogRecord = Schemas["LogRecord"];
export type Model = Omit<Schemas["ModelView"], "fit"> & { fit: Fit | null };
export type ModelState = Schemas["ModelState"];
export type Notice = Omit<Schemas["Notice"], "error"> & { error?: ErrorBody | null };
export type OperationView = Schemas["OperationView"];
export type Phase = Schemas["Phase"];
export type Snapshot = Schemas["Snapshot"];
export type Status = Schemas["Status"];
export type Step = Schemas["Step"];
export type SwitchPlan = Schemas["SwitchPlan"];
export type UsageBy = Schemas["UsageBy"];
export type UsageRow = Schemas["UsageRow"];
export type Autostart = Schemas["AutostartState"];
export type Catalog = Schemas["CatalogFile"];
export type EnginePatch = Schemas["CatalogPatch"];
export type Gpu = Schemas["GpuReading"];
export type Fit = Schemas["Fit"];
export type GpuDevice = Schemas["GpuDevice"];
export type Finding = Schemas["Finding"];
export type Live = Schemas["Live"];
export type LiveSession = Schemas["LiveSession"];
export type Problem = Omit<Schemas["Problem"], "error"> & { error: ErrorBody };
export type Settings = Schemas["Settings"];
export type SettingsAnswer = Schemas["SettingsFile"];
