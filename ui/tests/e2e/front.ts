// A stand-in for Corral's `/ui/` route, for whoever works on the dashboard and asks for it: the built files, under the same
// address as the real management API, to which everything else is passed on.
import { readFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

export interface Front {
  origin: string;
  close(): void;
}

const dist = join(import.meta.dirname, "../../dist");
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function serveFront(management: () => string): Promise<Front> {
  const server = createServer((asked, answer) => {
    const path = new URL(asked.url ?? "/", "http://127.0.0.1").pathname;
    if (path.startsWith("/ui/")) {
      const name = normalize(path.slice(4)) === "." ? "index.html" : normalize(path.slice(4));
      try {
        const body = readFileSync(join(dist, name));
        answer.writeHead(200, {
          "Content-Type": TYPES[extname(name)] ?? "text/plain",
          "Content-Security-Policy": POLICY,
        });
        answer.end(body);
      } catch {
        answer.writeHead(404).end();
      }
      return;
    }
    let target: URL;
    try {
      target = new URL(asked.url ?? "/", management());
    } catch {
      answer.destroy();
      return;
    }
    const { origin: _, ...headers } = asked.headers;
    const onward = request(target, { method: asked.method, headers: { ...headers, host: target.host } }, (back) => {
      answer.writeHead(back.statusCode ?? 502, back.headers);
      back.pipe(answer);
    });
    onward.on("error", () => answer.destroy());
    asked.pipe(onward);
    answer.on("close", () => onward.destroy());
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      resolve({ origin: `http://127.0.0.1:${port}`, close: () => close(server) });
    });
  });
}

function close(server: Server) {
  server.close();
  server.closeAllConnections();
}
