// Keeps functions from JavaScriptCore's last compiler (FTL) in programs that live for seconds.
//
// A function is handed to it after some thousand calls. One such compilation takes 10 to 100 ms, on a
// core that the program itself could use; the code of the tier below is hardly slower for what we do.
// Measured with mkcomposefs: 0.6 of the CPU time for a dump of 30,000 entries, 0.7 for 200,000, the same
// for a million; 0.85 of the wall time for a directory of 30,000. Private methods cannot be named here.

/** Adds the marks to a bundle whose top-level functions begin at the start of a line. */
export function avoidLastTier(code: string): string {
  const names = [...code.matchAll(/^(?:async )?function\*? (\w+)\(/gm)].map(([, name]) => name);
  return [
    'import { noFTL as $noFTL } from "bun:jsc";',
    code,
    `for (const $each of [${names.join(", ")}]) $noFTL($each);`,
  ].join("\n");
}
