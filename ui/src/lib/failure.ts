import type { ErrorBody } from "../types";

/** What went wrong, as Corral says it. */
export class Failure extends Error {
  readonly code: string;
  readonly hint: string | null;
  readonly log: string[];

  /** `status` is HTTP's, 0 where no answer came. */
  constructor(
    body: ErrorBody,
    readonly status: number,
  ) {
    super(body.message);
    this.name = "Failure";
    this.code = body.code;
    this.hint = body.hint ?? null;
    this.log = body.log ?? [];
  }
}

/** No answer came at all. */
export function unreachable(): Failure {
  const body = { code: "daemon_unavailable", message: "Corral does not answer", hint: "start it with `corral serve`" };
  return new Failure(body, 0);
}

/** Whether that is an error as Corral's programs write it, which commands of the window reject with. */
function isErrorBody(error: unknown): error is ErrorBody {
  const body = error as Partial<ErrorBody> | null | undefined;
  return typeof body?.code === "string" && typeof body.message === "string" && !(error instanceof Error);
}

/** Whatever was thrown, as a failure. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (isErrorBody(error)) return new Failure(error, 0);
  const message = error instanceof Error ? error.message : String(error);
  return new Failure({ code: "internal", message, hint: null }, 0);
}

/** An answer that is not a success. */
export function refusal(status: number, body: unknown): Failure {
  const error = (body as { error?: ErrorBody } | null)?.error;
  if (error?.message) return new Failure(error, status);
  const hint = "try again; what `corral doctor` finds may tell why";
  return new Failure({ code: "internal", message: `Corral answered with ${status}`, hint }, status);
}
