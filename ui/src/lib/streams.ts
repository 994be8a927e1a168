// What comes in pieces of any size is put together to server-sent events and to lines.

/** One server-sent event. */
export interface ServerEvent {
  name: string;
  data: string;
}

/** Takes text in pieces, hands on whole lines without their ends. */
export function lineReader(onLine: (line: string) => void): (piece: string) => void {
  let rest = "";
  let afterReturn = false;
  return (piece) => {
    let text = piece;
    // A CRLF may be cut in its middle.
    if (afterReturn && text.startsWith("\n")) text = text.slice(1);
    afterReturn = false;
    let from = 0;
    for (let at = 0; at < text.length; at += 1) {
      const char = text[at];
      if (char !== "\n" && char !== "\r") continue;
      onLine(rest + text.slice(from, at));
      rest = "";
      if (char === "\r") {
        if (text[at + 1] === "\n") at += 1;
        else if (at + 1 === text.length) afterReturn = true;
      }
      from = at + 1;
    }
    rest += text.slice(from);
  };
}

/** Takes text in pieces, hands on server-sent events; comments and unknown fields are passed over. */
export function eventReader(onEvent: (event: ServerEvent) => void): (piece: string) => void {
  let name = "";
  let data: string[] = [];
  return lineReader((line) => {
    if (line === "") {
      if (data.length) onEvent({ name: name || "message", data: data.join("\n") });
      name = "";
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  });
}

/** How long to wait before try number `attempt` (from 0): half a second, doubled each time, 10 s at most. */
export function backoff(attempt: number): number {
  return Math.min(10_000, 500 * 2 ** Math.min(attempt, 10));
}
