/** A terminal as it stands in a field: a program, or a command of words; words with spaces are quoted. */
export function terminalText(setting: string | string[] | null | undefined): string {
  if (setting == null) return "";
  if (typeof setting === "string") return setting;
  return setting
    .map((word) => (/[\s"]/.test(word) || !word ? `"${word.replace(/(["\\])/g, "\\$1")}"` : word))
    .join(" ");
}

/** What the field means: nothing, a program, or a command. */
export function readTerminal(text: string): string | string[] | null {
  const words: string[] = [];
  for (const [, quoted, plain] of text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    words.push(quoted === undefined ? plain : quoted.replace(/\\(.)/g, "$1"));
  }
  if (words.length === 0) return null;
  return words.length === 1 ? words[0] : words;
}
