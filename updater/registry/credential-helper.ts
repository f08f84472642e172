// Credential helpers: programs "docker-credential-NAME" that keep passwords. "get" reads a server's name on stdin and
// answers with JSON on stdout (the docker-credential-helpers protocol).
//
// Output and time are bounded. What the program wrote is never part of a message when it may hold the secret.

import * as z from "zod";
import { FormatError, StateError, UnsupportedError } from "../../shared/error.ts";
import { type ConfigPlace, readVariable } from "./config-place.ts";
import type { Credentials } from "./credentials.ts";

const MAX_OUTPUT_BYTES = 64 << 10;
const TIMEOUT_MS = 30_000;

const answerSchema = z.looseObject({ Username: z.string(), Secret: z.string() });

/** Debian packages of the helpers there are packages for. */
const PACKAGES: Readonly<Record<string, string>> = {
  pass: "golang-docker-credential-helpers",
  secretservice: "golang-docker-credential-helpers",
  "ecr-login": "amazon-ecr-credential-helper",
};

export interface HelperOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

/** Whether the program is installed. */
export function hasCredentialHelper(place: ConfigPlace, name: string): boolean {
  return findProgram(place, name) !== null;
}

/**
 * What the helper knows about `server`, e.g. "quay.io"; null: nothing. UnsupportedError when the program is missing,
 * StateError when it fails or takes too long, FormatError when it answers nonsense.
 */
export async function askCredentialHelper(
  place: ConfigPlace,
  name: string,
  server: string,
  options: HelperOptions = {},
): Promise<Credentials | null> {
  const path = findProgram(place, name);
  const program = `docker-credential-${name}`;
  if (path === null) {
    const from = PACKAGES[name];
    throw new UnsupportedError(
      "missing-program",
      `The credential helper "${program}" for "${server}" is not installed; install ${from === undefined ? "it into $PATH" : `the package "${from}"`}, or use "podman login" without a helper`,
      { program },
    );
  }
  const what = `"${program} get" for "${server}"`;
  const result = await runHelper(path, server, what, place, options);
  if (result.exitCode === 0) return readAnswer(result.stdout, what);
  if (/credentials not found/i.test(result.stdout)) return null;
  // A failing helper explains itself on stdout; JSON there would be an answer.
  const reason = result.stdout.includes("{") ? result.stderr : result.stdout || result.stderr;
  throw new StateError("command-failed", `${what} failed: ${shorten(reason)}`, { program });
}

function readAnswer(text: string, what: string): Credentials | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without a cause: it would quote the answer.
    throw new FormatError("bad-value", `${what} did not answer with JSON`, { format: what });
  }
  const answer = answerSchema.safeParse(value);
  if (!answer.success) {
    throw new FormatError("bad-value", `${what} did not answer with "Username" and "Secret"`, {
      format: what,
    });
  }
  const { Username: username, Secret: secret } = answer.data;
  if (username === "" && secret === "") return null;
  if (username === "<token>") return { kind: "identity-token", token: secret };
  return { kind: "basic", username, password: secret };
}

interface HelperResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function runHelper(
  path: string,
  server: string,
  what: string,
  place: ConfigPlace,
  { signal, timeoutMs = TIMEOUT_MS }: HelperOptions,
): Promise<HelperResult> {
  signal?.throwIfAborted();
  const child = Bun.spawn([path, "get"], {
    stdin: Buffer.from(server),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...place.environment },
  });
  const readers = [child.stdout.getReader(), child.stderr.getReader()] as const;
  const stopped = Promise.withResolvers<never>();
  const stop = (reason: unknown) => stopped.reject(reason);
  const timer = setTimeout(
    () => stop(new StateError("interrupted", `${what} took more than ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  const onAbort = () => stop(signal?.reason);
  signal?.addEventListener("abort", onAbort);
  try {
    const all = Promise.all([
      readBounded(readers[0], what),
      readBounded(readers[1], what),
      child.exited,
    ]);
    const [stdout, stderr] = await Promise.race([all, stopped.promise]);
    return { exitCode: child.exitCode, stdout, stderr };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    // A child of the helper may still hold the pipes; nobody waits for it.
    child.kill("SIGKILL");
    for (const reader of readers) void reader.cancel().catch(() => undefined);
  }
}

interface ByteReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
}

async function readBounded(reader: ByteReader, what: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done || value === undefined) return Buffer.concat(chunks).toString("utf8");
    size += value.length;
    if (size > MAX_OUTPUT_BYTES) {
      throw new FormatError("limit", `${what} wrote more than ${MAX_OUTPUT_BYTES} bytes`);
    }
    chunks.push(value);
  }
}

/** null when it is not installed. FormatError when `name` is no name of a helper. */
function findProgram(place: ConfigPlace, name: string): string | null {
  if (!/^[\w][\w.-]*$/.test(name)) {
    throw new FormatError("bad-value", `"${name}" is not the name of a credential helper`);
  }
  const path = readVariable(place, "PATH") ?? "/usr/local/bin:/usr/bin:/bin";
  return Bun.which(`docker-credential-${name}`, { PATH: path });
}

/** The last line, at most 200 characters. */
function shorten(text: string): string {
  const line = text.trim().split("\n").at(-1)!;
  return line === "" ? "it said nothing" : line.slice(0, 200);
}
