// In which order GRUB shows entries: by file name, the greatest first, whatever stands in them
// (bootc.md 4.4). There are three ways to compare two names, and which one a GRUB has cannot be seen:
// Fedora's blscfg takes the name for an RPM's name-version-release; GRUB 2.14 compares as `ls -v` does; and
// bootc 1.16 compares plain text. Names made here are in the same order in all three.

import { compareText } from "../bls/version.ts";

/** Menu order of a GRUB of the Fedora family, for names of anybody's making. Ids are without ".conf". */
export function compareMenuNames(a: string, b: string): number {
  return comparePackages(b, a) || compareText(b, a);
}

/** Whether every GRUB (and bootc) shows the entry of id `a` before that of id `b`. */
export function isShownBefore(a: string, b: string): boolean {
  return (
    compareText(`${a}.conf`, `${b}.conf`) > 0 &&
    comparePackages(a, b) > 0 &&
    compareFileVersions(`${a}.conf`, `${b}.conf`) > 0
  );
}

/**
 * Ids for a menu in this order. The first keeps its name; one that would be shown before its predecessor
 * becomes `bootc-<NN>.<version>-<n>`, which is below every `bootc_…` and counts down.
 */
export function orderNames(ids: readonly string[]): readonly string[] {
  const names: string[] = [];
  for (const id of ids) {
    const previous = names.at(-1);
    names.push(previous === undefined || isShownBefore(previous, id) ? id : demote(id, previous));
  }
  return names;
}

/** Two digits always: as text and as numbers they are in the same order. */
const HIGHEST_RANK = 98;
const LOWEST_RANK = 10;

function demote(id: string, previous: string): string {
  const version = /^(?:bootc_[^-]*-|bootc-[0-9]{2}\.)(.*)-[0-9]+$/.exec(id)?.[1] ?? id;
  const above = /^bootc-([0-9]{2})\./.exec(previous)?.[1];
  const rank = above === undefined ? HIGHEST_RANK : Math.max(Number(above) - 1, LOWEST_RANK);
  return `bootc-${rank}.${version.replaceAll("-", "_")}-0`;
}

/** Splits at the last two hyphens; name, version and release count in this order. */
function comparePackages(a: string, b: string): number {
  const [left, right] = [splitPackage(a), splitPackage(b)];
  for (const [index, part] of left.entries()) {
    const order = compareSegments(part, right[index]!);
    if (order !== 0) return order;
  }
  return 0;
}

function splitPackage(id: string): readonly string[] {
  const match = /^(?:(?:(.*)-)?([^-]*)-)?([^-]*)$/s.exec(id)!;
  // Without hyphens everything is name.
  return match[2] === undefined
    ? [match[3]!, "", ""]
    : match[1] === undefined
      ? [match[2], "", match[3]!]
      : [match[1], match[2], match[3]!];
}

/** RPM's rule: runs of digits and of letters; "~" sorts before everything, digits after letters. */
function compareSegments(a: string, b: string): number {
  const left = a.match(/~|[0-9]+|[A-Za-z]+/g) ?? [];
  const right = b.match(/~|[0-9]+|[A-Za-z]+/g) ?? [];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const [x, y] = [left[i], right[i]];
    if (x === "~" || y === "~") {
      if (x !== y) return x === "~" ? -1 : 1;
    } else if (x === undefined || y === undefined) {
      return x === undefined ? -1 : 1;
    } else {
      const order = compareSegment(x, y);
      if (order !== 0) return order;
    }
  }
  return 0;
}

function compareSegment(a: string, b: string): number {
  const [isNumber, isOther] = [/^[0-9]/.test(a), /^[0-9]/.test(b)];
  if (isNumber !== isOther) return isNumber ? 1 : -1;
  return isNumber ? compareNumbers(a, b) : compareText(a, b);
}

function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  return x.length - y.length || compareText(x, y);
}

/** gnulib's filevercmp: without the extension first; runs of text and runs of digits in turn. */
function compareFileVersions(a: string, b: string): number {
  const [x, y] = [cutExtension(a), cutExtension(b)];
  return compareRuns(x, y) || compareRuns(a, b);
}

/** Extensions begin with a letter or "~" after their dot; there may be several. */
function cutExtension(name: string): string {
  return name.replace(/(?:\.[A-Za-z~][A-Za-z0-9~]*)*$/, "");
}

function compareRuns(a: string, b: string): number {
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    while ((i < a.length && !isDigit(a[i])) || (j < b.length && !isDigit(b[j]))) {
      const order = rankOf(a[i]) - rankOf(b[j]);
      if (order !== 0) return order;
      i += 1;
      j += 1;
    }
    const x = /^[0-9]*/.exec(a.slice(i))![0];
    const y = /^[0-9]*/.exec(b.slice(j))![0];
    const order = compareNumbers(x, y);
    if (order !== 0) return order;
    i += x.length;
    j += y.length;
  }
  return 0;
}

function isDigit(character: string | undefined): boolean {
  return character !== undefined && /[0-9]/.test(character);
}

/** "~" before the end, the end before digits, these before letters, and those before all else. */
function rankOf(character: string | undefined): number {
  if (character === undefined) return -1;
  if (character === "~") return -2;
  if (isDigit(character)) return 0;
  const code = character.codePointAt(0)!;
  return /[A-Za-z]/.test(character) ? code : code + 0x10_0000;
}
