// A full disk, said in words that help.

import { isErrno, StateError } from "../error.ts";

/** A StateError("no-space") naming `what` when `error` is a full disk or quota, else `error` itself. */
export function explainNoSpace(error: unknown, what: string): unknown {
  if (!isErrno(error, "ENOSPC", "EDQUOT")) return error;
  return new StateError(
    "no-space",
    `No space left for the ${what}; free some space and try again`,
    {},
    { cause: error },
  );
}
