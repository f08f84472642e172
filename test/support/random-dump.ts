// Seeded random dump files for property tests and for comparing with the real mkcomposefs: the same
// seed gives the same dump for ever (change nothing here lightly: failures are reported by seed).
//
// The choices aim at what formats get wrong: tails around block ends, names around `.`, shared and
// repeated xattrs, overlay's own names, whiteouts, hard links that point forward, times below zero,
// sizes up to 2^53, link counts that lie.

export interface RandomDumpOptions {
  /** Upper limit for the number of entries. */
  readonly maxEntries?: number;
  /** Leave out what composefs-rs cannot hold or treats in its own way (composefs.md 2.12). */
  readonly portable?: boolean;
}

export interface Random {
  /** An integer from 0 to `limit` - 1. */
  readonly below: (limit: number) => number;
  readonly chance: (percent: number) => boolean;
  readonly pick: <T>(values: readonly T[]) => T;
}

/** A linear congruential generator with a scrambled output; quality is of no concern. */
export function createRandom(seed: number): Random {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
    x = (x ^ (x >>> 15)) >>> 0;
    return Math.floor((x / 2 ** 32) * limit);
  };
  return {
    below,
    chance: (percent) => below(100) < percent,
    pick: (values) => values[below(values.length)]!,
  };
}

interface Entry {
  readonly path: string;
  readonly type: string;
}

interface Making {
  readonly random: Random;
  readonly portable: boolean;
  readonly lines: string[];
  readonly directories: string[];
  readonly taken: Set<string>;
  readonly leaves: Entry[];
}

/** The text of a dump, one byte per character. */
export function makeRandomDump(seed: number, options: RandomDumpOptions = {}): string {
  const random = createRandom(seed);
  const portable = options.portable ?? false;
  const m: Making = {
    random,
    portable,
    lines: [],
    directories: [""],
    taken: new Set(),
    leaves: [],
  };
  m.lines.push(`/ 0 4${permissions(m)} 2 ${owner(m)} 0 ${time(m)} - - -${xattrs(m)}\n`);
  const entries = random.below(random.pick([3, 12, 40, options.maxEntries ?? 300]));
  for (let i = 0; i < entries; i++) addEntry(m);
  return m.lines.join("");
}

const ODD_NAMES = [
  "!",
  "-",
  "-x",
  ".a",
  "..b",
  ".-",
  "...",
  "~",
  "\\xff",
  "\\x01",
  "\\x20",
  "ab",
  "00",
  "ff",
  "0g",
  "\\x7f",
];

function makeName({ random }: Making): string {
  if (random.chance(15))
    return random.pick(ODD_NAMES) + (random.chance(30) ? "" : random.below(50));
  const length = random.chance(10) ? random.below(240) : random.below(20);
  return `${"abcdefgh".repeat(30).slice(0, length)}${random.below(1000)}`;
}

function makePath(m: Making): string | null {
  const { random } = m;
  const recent = random.chance(60) ? m.directories.at(-1)! : random.pick(m.directories);
  const path = `${random.chance(2) ? m.directories[0]! : recent}/${makeName(m)}`;
  if (m.taken.has(path) || path.length > 3000) return null;
  m.taken.add(path);
  return path;
}

function addEntry(m: Making): void {
  const { random } = m;
  const path = makePath(m);
  if (path === null) return;
  const kind = random.below(100);
  if (kind < 18) {
    m.lines.push(
      `${path} 0 4${permissions(m)} ${nlink(m)} ${owner(m)} 0 ${time(m)} - - -${xattrs(m)}\n`,
    );
    m.directories.push(path);
    return;
  }
  if (kind < 26 && m.leaves.length > 0) {
    addLink(m, path);
    return;
  }
  const [type, size, rdev, data] = leafFields(m, kind);
  const isWhiteout = type === "2" && rdev === "0";
  if (random.chance(4) && !(m.portable && isWhiteout)) {
    // The inode sits at a name that comes later than its hard link.
    const linkPath = makePath(m);
    if (linkPath !== null) m.lines.push(`${linkPath} 0 @${type}0644 1 0 0 0 0.0 ${path} - -\n`);
  }
  m.lines.push(
    `${path} ${size} ${type}${permissions(m)} ${nlink(m)} ${owner(m)} ${rdev} ${time(m)} ${data}${xattrs(m)}\n`,
  );
  m.leaves.push({ path, type: isWhiteout ? "whiteout" : type });
}

function addLink(m: Making, path: string): void {
  const target = m.random.pick(m.leaves);
  if (m.portable && target.type === "whiteout") return;
  const type = target.type === "whiteout" ? "2" : target.type;
  m.lines.push(`${path} 0 @${type}0644 1 0 0 0 0.0 ${target.path} - -\n`);
}

/** Type digits, SIZE, RDEV and the three data fields. */
function leafFields(m: Making, kind: number): [string, string, string, string] {
  const { random } = m;
  if (kind < 40) {
    const target = "t/".repeat(2100).slice(0, symlinkLength(m));
    return ["12", String(target.length), "0", `${target} - -`];
  }
  if (kind < 60) return inlineFields(m);
  if (kind < 88) return externalFields(m);
  if (kind < 92) return ["2", "0", "0", "- - -"];
  const rdev = String(random.pick([1, 259, 66051, 4294967295]));
  return random.pick([
    ["1", "0", "0", "- - -"],
    ["14", "0", "0", "- - -"],
    ["2", "0", rdev, "- - -"],
    ["6", "0", rdev, "- - -"],
  ]);
}

function symlinkLength({ random, portable }: Making): number {
  if (portable || random.chance(70)) return 1 + random.below(60);
  return random.chance(50) ? 3950 + random.below(146) : 1 + random.below(4095);
}

function inlineFields({ random, portable }: Making): [string, string, string, string] {
  const length = portable
    ? random.below(512)
    : random.pick([random.below(65), random.below(5001), 2040 + random.below(16), 4096]);
  if (length === 0) return ["10", "0", "0", "- - -"];
  return ["10", String(length), "0", `- ${"c".repeat(length)} -`];
}

function externalFields({ random, portable }: Making): [string, string, string, string] {
  const size = random.chance(80)
    ? 1 + random.below(1_000_000)
    : Math.min(2 ** 53, Math.floor(2 ** random.below(54)) + random.below(3));
  const digest = hex(random.chance(30) ? 1 + random.below(4) : random.below(2 ** 31));
  const payload = `${digest.slice(0, 2)}/${digest.slice(2)}`;
  if (portable || random.chance(80)) return ["10", String(size), "0", `${payload} - ${digest}`];
  const fields = random.pick(["- - -", `- - ${digest}`, `${payload} - -`, `/odd/path - ${digest}`]);
  return ["10", String(size), "0", fields];
}

function hex(number: number): string {
  return (Math.imul(number, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0").repeat(8);
}

function permissions({ random }: Making): string {
  return String(random.pick(["0644", "0755", "0000", "7777", "4711", "1777"]));
}

function nlink({ random, portable }: Making): number {
  return portable ? 1 : random.pick([1, 1, 1, 1, 2, 0, 65535, 65536, 4294967295]);
}

function owner({ random }: Making): string {
  const ids = [0, 0, 0, 0, 1000, 65535, 65536, 4294967295];
  return `${random.pick(ids)} ${random.pick(ids)}`;
}

function time({ random, portable }: Making): string {
  if (random.chance(60)) return "1.5";
  const seconds = [0, 1, 1, 1_700_000_000, 253_402_300_799];
  const before = portable ? [] : [-1, -5_000_000_000];
  return `${random.pick([...seconds, ...before])}.${random.pick([0, 4, 5, 999_999_999])}`;
}

const XATTR_NAMES = [
  "security.selinux",
  "security.selinux",
  "security.capability",
  "user.a",
  "user.aa",
  "user.b",
  "user.",
  "trusted.x",
  "system.posix_acl_access",
  "system.posix_acl_default",
  "lustre.lov",
  "odd",
  "trusted.overlay.redirect",
  "trusted.overlay.metacopy",
  "trusted.overlay.overlay.nested",
  "trusted.overlayfoo",
];
/** Where C and Rust differ, or where reading cannot tell who put them there. */
const MARKS = ["trusted.overlay.opaque", "user.overlay.opaque", "system.posix_acl_accessfoo"];

function xattrs(m: Making): string {
  const { random, portable } = m;
  if (random.chance(45)) return "";
  let text = "";
  const used = new Set<string>();
  const count = random.chance(3) ? random.below(160) : random.below(5);
  for (let i = 0; i < count; i++) {
    let name = random.pick(portable || random.chance(90) ? XATTR_NAMES : MARKS);
    if (random.chance(10) || count > 5) name = `user.${"k".repeat(random.below(60))}${i}`;
    if (used.has(name)) continue;
    used.add(name);
    // C gives up (ERANGE) when its marks replace a value that is longer by much.
    text += ` ${name}=${MARKS.includes(name) ? "n" : xattrValue(m)}`;
  }
  return text;
}

function xattrValue({ random }: Making): string {
  if (random.chance(60)) return random.pick(["", "x", "y", "label\\x00", "a\\x3db", "-"]);
  const length = random.chance(90) ? random.below(30) : random.below(700);
  return `${"v".repeat(length)}${random.below(5)}`;
}
