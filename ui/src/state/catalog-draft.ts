import { createSignal } from "solid-js";
import { asFailure, type Failure } from "../lib/failure";
import type { Platform } from "../platform";
import type { Catalog, Problem } from "../types";

/** How long after the last key the text is checked. */
const PAUSE = 300;

/** models.toml as it is being edited. It outlives its view, so that nothing typed is lost. */
export function createCatalogDraft(platform: Platform) {
  const [disk, setDisk] = createSignal<Catalog | null>(null);
  const [text, setText] = createSignal("");
  const [problems, setProblems] = createSignal<Problem[]>([]);
  const [failure, setFailure] = createSignal<Failure | null>(null);
  const [saving, setSaving] = createSignal(false);
  /** What is on disk where that is neither what was read nor what was typed. */
  const [conflict, setConflict] = createSignal<Catalog | null>(null);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = 0;

  const dirty = () => disk() !== null && text() !== disk()!.text;

  function take(catalog: Catalog) {
    setDisk(catalog);
    setText(catalog.text);
    setProblems(catalog.problems);
    setConflict(null);
    setFailure(null);
  }

  async function check() {
    const number = ++asked;
    try {
      const answer = await platform.post("/catalog/check", { text: text() });
      if (number === asked) setProblems(answer.problems);
    } catch (error) {
      if (number === asked) setFailure(asFailure(error));
    }
  }

  async function put(version: string): Promise<boolean> {
    if (saving()) return false;
    setSaving(true);
    setFailure(null);
    const sent = text();
    try {
      const catalog = await platform.put("/catalog", { text: sent, version });
      // Keys that were pressed meanwhile stay.
      const typed = text();
      take(catalog);
      if (typed !== sent) edit(typed);
      return true;
    } catch (error) {
      const failed = asFailure(error);
      if (failed.code === "catalog_changed") await showConflict();
      else setFailure(failed);
      return false;
    } finally {
      setSaving(false);
    }
  }

  async function showConflict() {
    try {
      setConflict(await platform.get("/catalog"));
    } catch (error) {
      setFailure(asFailure(error));
    }
  }

  function edit(next: string) {
    setText(next);
    setFailure(null);
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE);
  }

  return {
    disk,
    text,
    problems,
    failure,
    saving,
    conflict,
    dirty,
    edit,
    /** Reads the file; what was typed stays. */
    async load() {
      try {
        const catalog = await platform.get("/catalog");
        if (!dirty()) take(catalog);
      } catch (error) {
        setFailure(asFailure(error));
      }
    },
    /** Writes what was typed; answers whether it is on disk now. */
    save: () => (disk() ? put(disk()!.version) : Promise.resolve(false)),
    discard: () => disk() && take(disk()!),
    /** Ends a conflict: with what was typed, or with what is on disk. */
    async settle(mine: boolean) {
      const other = conflict();
      if (!other) return false;
      if (!mine) {
        take(other);
        return true;
      }
      setDisk(other);
      setConflict(null);
      return put(other.version);
    },
    /** Leaves a conflict as it is, to go on editing. */
    postpone: () => setConflict(null),
  };
}

export type CatalogDraft = ReturnType<typeof createCatalogDraft>;
