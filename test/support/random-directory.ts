// Seeded random directories on disk, for comparing how we and the real mkcomposefs read one: sizes
// around the limit for inline content, hard links, devices, whiteouts, xattrs, odd names and times.

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK } from "../../shared/format/tree/node.ts";
import { fchmodat, fchownat, utimensat } from "../../shared/sys/attributes.ts";
import { linkat, mknodat } from "../../shared/sys/link.ts";
import { lsetxattr } from "../../shared/sys/xattr.ts";
import { createRandom, type Random } from "./random-dump.ts";

const NAMES = [
  "a",
  "b",
  "file",
  "ab",
  "00",
  "ff",
  "-x",
  "!",
  "sp ace",
  "t\tab",
  "n\nl",
  "b\\s",
  "e=q",
];
const SIZES = [0, 1, 63, 64, 65, 66, 4096, 4097, 70_000];
const XATTRS = ["user.a", "user.b", "trusted.x", "trusted.overlay.opaque", "security.test"];

/** Fills the new directory `path`; the same seed gives the same tree. */
export function makeRandomDirectory(path: string, seed: number): void {
  const random = createRandom(seed);
  mkdirSync(path);
  const root = Buffer.from(path);
  const directories = [root];
  const leaves: Buffer[] = [];
  const entries = random.below(random.pick([4, 20, 60]));
  for (let i = 0; i < entries; i++) {
    const parent = random.pick(directories);
    const bytes = random.chance(5) ? Buffer.from([0xff, 0x80 + i]) : Buffer.from(nameOf(random, i));
    const place = Buffer.concat([parent, Buffer.from("/"), bytes]);
    if (random.chance(20)) {
      mkdirSync(place);
      directories.push(place);
    } else {
      makeLeaf(random, place, leaves);
      leaves.push(place);
    }
  }
  for (const each of [...leaves, ...directories.toReversed()]) dress(random, each);
}

function nameOf(random: Random, number: number): string {
  return `${random.pick(NAMES)}${number}${"n".repeat(random.chance(5) ? 200 : random.below(9))}`;
}

function makeLeaf(random: Random, path: Buffer, leaves: readonly Buffer[]): void {
  const kind = random.below(100);
  if (kind < 10 && leaves.length > 0) linkat(null, random.pick(leaves), null, path);
  else if (kind < 20) symlinkSync(random.pick(["t", "../a b", "x".repeat(3000)]), path);
  else if (kind < 24) mknodat(null, path, S_IFCHR | 0o644, 0);
  else if (kind < 27) mknodat(null, path, S_IFCHR | 0o600, (1 << 8) | 3);
  else if (kind < 30) mknodat(null, path, S_IFBLK | 0o600, (259 << 8) | 7);
  else if (kind < 33) mknodat(null, path, S_IFIFO | 0o644, 0);
  else if (kind < 36) mknodat(null, path, S_IFSOCK | 0o644, 0);
  else writeFileSync(path, Buffer.alloc(random.pick(SIZES), `content ${random.below(8)}`));
}

function dress(random: Random, path: Buffer): void {
  if (random.chance(40)) {
    // Files other than regular ones and directories have no user xattrs, symlinks no mode.
    const name = random.pick(XATTRS);
    unlessRefused(() => lsetxattr(path, name, Buffer.from(random.pick(["", "x", "a=b c\0"]))));
  }
  if (random.chance(30)) fchownat(null, path, random.pick([0, 1000, 70_000]), random.pick([0, 5]));
  if (random.chance(30)) unlessRefused(() => fchmodat(null, path, random.pick([0, 0o755, 0o4711])));
  const seconds = random.pick([0, 1, -5, 1_700_000_000]);
  utimensat(null, path, seconds, random.pick([0, 5, 999_999_999]));
}

function unlessRefused(action: () => void): void {
  try {
    action();
  } catch {}
}
