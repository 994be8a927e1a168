/** The views, in the order of the navigation. */
export const VIEWS = ["models", "gpu", "live", "logs", "usage", "settings", "health"] as const;

/** A view's name in the address. */
export type View = (typeof VIEWS)[number];

/** What the address's fragment names: a view, and a part of it. */
export interface Route {
  view: View;
  part: string;
}

/** Reads a fragment; what is not known leads to the models. */
export function readRoute(hash: string): Route {
  const [view, ...rest] = hash.replace(/^#\/?/, "").split("/");
  const known = VIEWS.find((name) => name === view);
  return known ? { view: known, part: rest.join("/") } : { view: "models", part: "" };
}

/** The token that a fragment carries, and the fragment without it. */
export function takeToken(hash: string): { token: string | null; hash: string } {
  const fields = hash.replace(/^#/, "").split("&");
  const token = fields.find((field) => field.startsWith("token="))?.slice("token=".length) ?? null;
  const rest = fields.filter((field) => !field.startsWith("token=")).join("&");
  return { token: token || null, hash: rest ? `#${rest}` : "" };
}
