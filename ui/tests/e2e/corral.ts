// A real `corral serve` in a home of its own, with tiny models and a real llama-server.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Front, serveFront } from "./front";

/** A part that must be there; a missing one fails the test that needs it. */
function part(variable: string, otherwise: string): string {
  const path = process.env[variable] ?? otherwise;
  if (!existsSync(path))
    throw new Error(`${variable}: there is no ${path}; scripts/testbed.sh and cargo build bring it`);
  return path;
}

const repository = join(import.meta.dirname, "../../..");
const binary = () => part("CORRAL_TEST_BINARY", join(repository, "target/release/corral"));
const llamaServer = () => part("CORRAL_TEST_LLAMA_SERVER", join(homedir(), ".cache/corral/llama-server"));
const tinyGguf = () => part("CORRAL_TEST_TINY_GGUF", join(dirname(binary()), "tiny-gguf"));

/** How long a condition may take to come true, in milliseconds. */
export const PATIENCE = 30_000;

export interface ModelEntry {
  id: string;
  name?: string;
  file?: string;
  lines?: string;
  /** Whether its file is there. */
  there?: boolean;
}

export const TWO: ModelEntry[] = [
  { id: "tiny", name: "Tiny", file: "tiny-1M-Q4_K_M.gguf" },
  { id: "tiny-2", name: "Tiny, the other one", file: "tiny-2-F16.gguf" },
];

/** Waits until a condition holds; it is asked again and again. */
export async function eventually<T>(what: string, condition: () => Promise<T | false | null | undefined>): Promise<T> {
  const end = Date.now() + PATIENCE;
  let last: unknown;
  while (Date.now() < end) {
    try {
      const value = await condition();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`it did not come true: ${what}${last ? ` (${last})` : ""}`);
}

export class Corral {
  private child: ChildProcess | undefined;
  private front: Front | undefined;
  readonly home = mkdtempSync(join(tmpdir(), "corral-ui-"));
  private ports = { gateway: 0, management: 0 };

  private constructor(private models: ModelEntry[]) {}

  static async start(models: ModelEntry[] = TWO, head = ""): Promise<Corral> {
    const corral = new Corral(models);
    corral.writeHome(head);
    await corral.serve();
    return corral;
  }

  get catalogPath(): string {
    return join(this.home, "config/models.toml");
  }

  get settingsPath(): string {
    return join(this.home, "config/settings.toml");
  }

  private writeHome(head: string) {
    mkdirSync(join(this.home, "config"), { recursive: true });
    mkdirSync(join(this.home, "data/models"), { recursive: true });
    for (const [index, model] of this.models.entries()) {
      if (model.there === false) continue;
      const path = join(this.home, "data/models", model.file ?? `${model.id}.gguf`);
      if (!existsSync(path)) execFileSync(tinyGguf(), [path, "--seed", `${index + 1}`]);
    }
    writeFileSync(this.catalogPath, this.catalog(head));
  }

  /** The text of the catalog; comments are in it because they have to stay. */
  catalog(head = ""): string {
    const tables = this.models.map(
      (model) =>
        `[models.${model.id}]\nname = ${JSON.stringify(model.name ?? model.id)}\n` +
        `file = ${JSON.stringify(model.file ?? `${model.id}.gguf`)}\n${model.lines ?? ""}`,
    );
    return `# The models of a test.
schema = 1

[server]
gateway = "127.0.0.1:${this.ports.gateway}"
management = "127.0.0.1:${this.ports.management}"

[engine]
runtime = "process"   # no container is needed here
binary = ${JSON.stringify(llamaServer())}
models_dir = ${JSON.stringify(join(this.home, "data/models"))}

[defaults]
ctx = 4096
env = { LLAMA_ARG_THREADS = "1" }
${head}
${tables.join("\n")}`;
  }

  private environment() {
    const { PATH, HOME, XDG_RUNTIME_DIR, DOCKER_HOST } = process.env;
    return { PATH, HOME, XDG_RUNTIME_DIR, DOCKER_HOST, CORRAL_HOME: this.home } as NodeJS.ProcessEnv;
  }

  /** Starts the daemon and waits until it answers. */
  async serve(): Promise<void> {
    const child = spawn(binary(), ["serve"], { env: this.environment(), stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stdout.on("data", (piece) => (said += piece));
    child.stderr.on("data", (piece) => (said += piece));
    this.child = child;
    await eventually("corral serve answers", async () => {
      if (child.exitCode !== null) throw new Error(`corral serve ended: ${said}`);
      return (await fetch(`${this.management}/healthz`)).ok;
    });
    const address = JSON.parse(readFileSync(join(this.home, "run/daemon.json"), "utf8")).management as string;
    this.ports.management = Number(address.split(":").pop());
  }

  get management(): string {
    const daemon = JSON.parse(readFileSync(join(this.home, "run/daemon.json"), "utf8"));
    return `http://${daemon.management}`;
  }

  get token(): string {
    return readFileSync(join(this.home, "run/token"), "utf8").trim();
  }

  /** Where the dashboard is, with the token in the fragment. */
  async url(view = "models", token = this.token): Promise<string> {
    return `${await this.origin()}/ui/#token=${token}&${view}`;
  }

  /** Corral itself, which serves the dashboard; with `CORRAL_TEST_DIST` a stand-in in front of it with the files of `dist`. */
  async origin(): Promise<string> {
    if (process.env.CORRAL_TEST_DIST) {
      this.front ??= await serveFront(() => this.management);
      return this.front.origin;
    }
    // A program that was built without the dashboard's files has a page that says so.
    const page = await (await fetch(`${this.management}/ui/`)).text();
    if (!page.includes('id="app"')) {
      throw new Error(`${binary()} was built without the dashboard; scripts/ui.sh and cargo build bring it in, or set
        CORRAL_TEST_DIST=1 to test the files of ui/dist in front of it`);
    }
    return this.management;
  }

  // biome-ignore lint/suspicious/noExplicitAny: what tests ask is of every form
  async api(method: string, path: string, body?: unknown): Promise<any> {
    const answer = await fetch(this.management + path, {
      method,
      headers: { Authorization: `Bearer ${this.token}` },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** The key of the loaded model's own server. */
  async serverKey(): Promise<string> {
    const { engine } = await this.api("GET", "/status");
    return readFileSync(engine.key_file, "utf8").trim();
  }

  /** Asks the loaded model, or the one that is named, by the gateway. */
  async ask(model: string, prompt: string, key?: string, tokens = 16, stream = false): Promise<void> {
    const { gateway } = await this.api("GET", "/status");
    const answer = await fetch(`${gateway}/v1/chat/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) },
      // Random weights would end an answer at some random token.
      body: JSON.stringify({
        model,
        stream,
        max_tokens: tokens,
        ignore_eos: true,
        messages: [{ role: "user", content: prompt }],
      }),
    });
    if (!answer.ok) throw new Error(`the gateway answers ${answer.status}: ${await answer.text()}`);
    await answer.arrayBuffer();
  }

  /** Runs a shell's script in a jail, in a folder of its own. */
  jail(script: string): void {
    const folder = mkdtempSync(join(tmpdir(), "corral-ui-jail-"));
    try {
      const jail = ["jail", "--network", "none", "--workspace", folder, "--", "sh", "-c", script];
      execFileSync(binary(), jail, { env: this.environment(), stdio: "pipe" });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  async load(model: string): Promise<void> {
    await this.api("POST", "/switch", { model, wait: true });
  }

  /** Ends the daemon as a person would, and waits for it. The next one has the same port, where a page finds it again. */
  async end(): Promise<void> {
    const child = this.child;
    this.child = undefined;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    const any = 'management = "127.0.0.1:0"';
    const catalog = readFileSync(this.catalogPath, "utf8");
    writeFileSync(this.catalogPath, catalog.replace(any, any.replace(":0", `:${this.ports.management}`)));
  }

  async drop(): Promise<void> {
    // A test may have set that the model goes on when Corral ends.
    if (this.child) await this.api("POST", "/stop", { force: true, wait: true }).catch(() => undefined);
    await this.end();
    this.front?.close();
    rmSync(this.home, { recursive: true, force: true });
  }
}
