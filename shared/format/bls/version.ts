// Version comparison of the UAPI group's "Version Format Specification" (the rule systemd-boot and
// bootc sort boot entries with).
//
// A version is read as segments from the left: separators in the fixed order ~ - ^ . , then a run of
// digits (compared as a number of any length) or a run of letters (compared as ASCII). All other
// characters are ignored. "1~rc1" < "1" < "1-1" < "1^post" < "1.1"; letters < digits.

const SEPARATORS = ["~", "-", "^", "."] as const;
const IGNORED = /[^A-Za-z0-9~\-^.]+/g;

/** Negative when `left` is older, positive when newer, 0 when equal. */
export function compareVersions(left: string, right: string): number {
  let a = left.replaceAll(IGNORED, "");
  let b = right.replaceAll(IGNORED, "");
  for (;;) {
    // A tilde even sorts before the end of the text; the other separators only after it.
    for (const [index, separator] of SEPARATORS.entries()) {
      if (index === 1 && (a === "" || b === "")) return Math.sign(a.length - b.length);
      const order = Number(b.startsWith(separator)) - Number(a.startsWith(separator));
      if (order !== 0) return order;
      if (a.startsWith(separator)) {
        a = a.slice(1);
        b = b.slice(1);
      }
    }
    const [runA, runB, order] = compareRuns(a, b);
    if (order !== 0) return order;
    a = a.slice(runA.length);
    b = b.slice(runB.length);
  }
}

function compareRuns(a: string, b: string): readonly [string, string, number] {
  if (/^[0-9]/.test(a) || /^[0-9]/.test(b)) {
    const runA = /^[0-9]*/.exec(a)![0];
    const runB = /^[0-9]*/.exec(b)![0];
    // An absent number is older than any, 0 included.
    if (runA === "" || runB === "") return [runA, runB, Math.sign(runA.length - runB.length)];
    const digitsA = runA.replace(/^0+/, "");
    const digitsB = runB.replace(/^0+/, "");
    const byLength = Math.sign(digitsA.length - digitsB.length);
    return [runA, runB, byLength || compareText(digitsA, digitsB)];
  }
  const runA = /^[A-Za-z]*/.exec(a)![0];
  const runB = /^[A-Za-z]*/.exec(b)![0];
  return [runA, runB, compareText(runA, runB)];
}

/** By UTF-16 unit, which for ASCII is byte order. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
