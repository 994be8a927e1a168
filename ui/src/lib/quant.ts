// Model files say in their names how they are quantised; the API does not say it elsewhere.

const SCHEME =
  /(?:^|[^A-Za-z0-9])((?:UD-)?(?:IQ|TQ|Q)[0-9]+(?:_[A-Z0-9]+)*|BF16|F16|FP16|F32|MXFP4(?:_MOE)?|FP8)(?=[^A-Za-z0-9_]|$)/gi;

/** The quantisation out of a file's name: `GLM-4.7-Flash-Q4_K_M.gguf` has `Q4_K_M`. */
export function quantisation(file: string): string | null {
  const name = (file.split("/").pop() ?? "").replace(/\.gguf$/i, "").replace(/-\d{5}-of-\d{5}$/, "");
  const found = [...name.matchAll(SCHEME)].pop();
  return found ? found[1].toUpperCase() : null;
}
