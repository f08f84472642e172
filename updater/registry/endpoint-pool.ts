// The servers that have one repository, asked in order until one gives an acceptable answer.
//
// Who cannot help is left out; who might later is asked again in the next round, after a pause. An
// answer that does not stand up to `ask` is passed over like no answer: a bad mirror stops nobody.

import {
  FormatError,
  IntegrityError,
  RegistryError,
  UnsupportedError,
} from "../../shared/error.ts";
import type { EndpointSession } from "./endpoint.ts";
import type { RegistryLimits } from "./limits.ts";
import { isRetryable, openRetryWaits } from "./retry.ts";

export interface EndpointPool {
  readonly sessions: readonly EndpointSession[];
  /** How often bodies of an endpoint went wrong: those with fewer come first. */
  readonly faults: Map<EndpointSession, number>;
  readonly limits: RegistryLimits;
}

/** The first answer that `ask` accepts. `what` begins the message: "Cannot fetch …". */
export async function askEndpoints<T>(
  { sessions, faults, limits }: EndpointPool,
  what: string,
  ask: (session: EndpointSession) => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  const waits = openRetryWaits(limits);
  const faultsOf = (session: EndpointSession) => faults.get(session) ?? 0;
  let candidates = sessions.toSorted((a, b) => faultsOf(a) - faultsOf(b));
  const failures = new Map<EndpointSession, unknown>();
  for (let round = 0; ; round++) {
    const later: EndpointSession[] = [];
    for (const session of candidates) {
      signal?.throwIfAborted();
      try {
        return await ask(session);
      } catch (cause) {
        if (signal?.aborted) throw signal.reason;
        failures.set(session, cause);
        if (isRetryable(cause)) later.push(session);
      }
    }
    candidates = later;
    const [first] = later;
    const isWorthIt = first !== undefined && (await waits.wait(round, failures.get(first), signal));
    if (!isWorthIt) throw summarize(sessions, failures, what);
  }
}

/** The origin's failure is the one that counts; the mirrors' are mentioned. */
function summarize(
  sessions: readonly EndpointSession[],
  failures: ReadonlyMap<EndpointSession, unknown>,
  what: string,
): unknown {
  const origin = sessions.at(-1);
  const cause = origin && failures.get(origin);
  const mirrors = sessions.slice(0, -1).map((session) => {
    const failure = failures.get(session);
    const text = failure instanceof Error ? failure.message : String(failure);
    return `mirror "${session.endpoint.host}": ${text}`;
  });
  const message = mirrors.length === 0 ? what : `${what} (${mirrors.join("; ")})`;
  switch (true) {
    case cause instanceof RegistryError:
      return new RegistryError(cause.code, message, cause.context, { cause });
    case cause instanceof IntegrityError:
      return new IntegrityError(cause.code, message, cause.context, { cause });
    case cause instanceof FormatError:
      return new FormatError(cause.code, message, cause.context, { cause });
    case cause instanceof UnsupportedError:
      return new UnsupportedError(cause.code, message, cause.context, { cause });
    default:
      return cause;
  }
}
