// Error classes: one per kind of reaction, each with a closed set of codes (design.md, habit 5).
//
// Library code throws these and never prints. `cause` carries what went wrong underneath;
// a program's main prints the chain with `describeError`, as bootc's run_main does: "a: b: c".
// Messages: sentence case, no full stop, values quoted, naming the action that failed.

export type ErrorContext = Readonly<Record<string, string | number | boolean | undefined>>;

abstract class AppError<Code extends string> extends Error {
  abstract readonly kind: string;
  readonly code: Code;
  readonly context: ErrorContext;

  constructor(code: Code, message: string, context: ErrorContext = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.context = context;
  }
}

/** The command line is wrong; exit code 2. */
export class UsageError extends AppError<"unknown-option" | "conflict" | "bad-value" | "missing"> {
  readonly kind = "usage";
}

/** Bytes from outside are malformed. `context` names format, field and offset. */
export class FormatError extends AppError<
  "truncated" | "bad-magic" | "bad-value" | "limit" | "trailing" | "unsupported" | "not-found"
> {
  readonly kind = "format";
}

/** A digest, size or fs-verity measurement differs from what was promised. Never retried blindly. */
export class IntegrityError extends AppError<
  "digest-mismatch" | "size-mismatch" | "verity-missing" | "missing-object"
> {
  readonly kind = "integrity";
}

/** Well-formed, but not allowed by policy. */
export class PolicyError extends AppError<
  "unsigned" | "untrusted-key" | "rejected" | "revoked" | "wrong-image" | "downgrade" | "expired"
> {
  readonly kind = "policy";
}

/** A registry said no. `retryable` feeds the retry table. */
export class RegistryError extends AppError<
  "unauthorized" | "not-found" | "rate-limited" | "unavailable" | "protocol"
> {
  readonly kind = "registry";
}

/** What is on disk or running forbids this now; the message says what to do. */
export class StateError extends AppError<
  | "locked"
  | "newer-format"
  | "not-booted"
  | "no-rollback"
  | "not-root"
  | "in-container"
  | "no-space"
  | "missing"
  | "conflict"
  | "exists"
  | "interrupted"
  | "command-failed"
> {
  readonly kind = "state";
}

/** Kernel, firmware or a program that is needed is missing. */
export class UnsupportedError extends AppError<
  "no-fsverity" | "no-mount-api" | "transport" | "missing-program" | "feature" | "architecture"
> {
  readonly kind = "unsupported";
}

/** The kernel refused a system call. `code` is the errno name, `context` has call, path. */
export class SyscallError extends AppError<string> {
  readonly kind = "syscall";
  readonly call: string;

  /** `errnoName` is e.g. "ENOENT", `reason` its human text, "No such file or directory". */
  constructor(
    call: string,
    errnoName: string,
    reason: string,
    context: ErrorContext = {},
    options?: ErrorOptions,
  ) {
    const where = context["path"] === undefined ? "" : ` "${context["path"]}"`;
    super(errnoName, `${call}${where}: ${reason}`, context, options);
    this.call = call;
  }
}

/** True when `error` is a SyscallError (or a Node file error) with one of these errno names. */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && names.includes(code);
}

/** A block the disk lost, or one that fs-verity or the file system does not accept. */
export const LOST_BLOCK: readonly string[] = ["EIO", "EUCLEAN", "EBADMSG"];

/** Of errors that followed upon each other while things were put away, the one that began it. */
function firstError(error: unknown): unknown {
  let first = error;
  for (let depth = 0; depth < 16; depth++) {
    // Structurally: the runtime's own class and a compiler's stand-in look alike.
    const { name, suppressed } = first as { name?: unknown; suppressed?: unknown };
    if (name !== "SuppressedError" || suppressed == null) break;
    first = suppressed;
  }
  return first;
}

/** The whole cause chain on one line: outer message first, joined by ": " (bootc's format). */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; current !== undefined && current !== null && depth < 16; depth++) {
    current = firstError(current);
    const text = current instanceof Error ? current.message : String(current);
    if (!parts.at(-1)?.includes(text)) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(": ").replaceAll("\n", " ");
}
