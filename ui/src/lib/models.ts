import type { Model, ModelState, Snapshot } from "../types";
import { quantisation } from "./quant";

/** What a search looks through; every word has to be found. */
export function findModels(models: Model[], query: string): Model[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return models;
  return models.filter((model) => {
    const text = [
      model.id,
      model.name,
      model.description,
      model.file.split("/").pop(),
      quantisation(model.file),
      ...model.aliases,
    ]
      .join(" ")
      .toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** What a model is doing, by the snapshot where it is newer than the list. */
export function stateOf(model: Model, snapshot: Snapshot | null): ModelState {
  if (snapshot?.model === model.id && snapshot.phase !== "stopped") return snapshot.phase as ModelState;
  return model.state === "missing" ? "missing" : "available";
}

/** What can be done with a model. */
export type Action = "start" | "switch" | "stop" | "none";

/** The one action that a row offers. */
export function actionFor(model: Model, snapshot: Snapshot | null): Action {
  if (!snapshot) return "none";
  const operation = snapshot.operation;
  if (operation?.to === model.id) return "stop";
  const serves = snapshot.model === model.id && (snapshot.phase === "ready" || snapshot.phase === "draining");
  if (serves && !operation) return "stop";
  if (model.state === "missing" && snapshot.model !== model.id) return "none";
  return snapshot.model || operation ? "switch" : "start";
}
