// Seeded random directories of what ostree can hold, for comparing with the real one: contents around and beyond the
// chunk sizes, hard links, owners, set-id bits, xattrs, symlinks, names whose byte order is not that of
// UTF-16, directories whose objects need wider offsets. `changeTree` turns one into its successor.

import { lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fchmodat, fchownat, utimensat } from "../../shared/sys/attributes.ts";
import { linkat } from "../../shared/sys/link.ts";
import { lsetxattr } from "../../shared/sys/xattr.ts";
import { createRandom, type Random } from "./random-dump.ts";

const NAMES = ["a", "b", "usr", "etc", ".x", "-y", "sp ace", "ünï", "\u{1f600}", "\ufb01", "n\nl"];
const SIZES = [0, 0, 1, 63, 64, 65, 4096, 70_000];
const XATTRS = ["user.a", "user.b", "user.ab", "trusted.x", "security.test"];
const MODES = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o444, 0o000];

/** Fills the new directory `path`; the same seed gives the same tree. */
export function makeOstreeTree(path: string, seed: number): void {
  const random = createRandom(seed);
  mkdirSync(path);
  const directories = [path];
  const leaves: string[] = [];
  const count = random.below(random.pick([3, 20, 80]));
  for (let i = 0; i < count; i++)
    addEntry(random, random.pick(directories), i, directories, leaves);
  if (random.chance(15)) addCrowd(random, random.pick(directories), directories);
  for (const leaf of leaves) dressLeaf(random, leaf);
  for (const directory of directories.toReversed()) dressDirectory(random, directory);
}

/** Changes, adds and removes some entries of a tree. */
export function changeTree(path: string, seed: number): void {
  const random = createRandom(seed);
  for (const name of readdirSync(path)) {
    const place = join(path, name);
    if (random.chance(15)) rmSync(place, { recursive: true, force: true });
    if (random.chance(50)) continue;
    const directories: string[] = [];
    const leaves: string[] = [];
    if (random.chance(50)) addEntry(random, path, 1000 + random.below(1000), directories, leaves);
    for (const leaf of leaves) dressLeaf(random, leaf);
  }
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory() && random.chance(70)) changeTree(join(path, entry.name), seed + 1);
    if (entry.isDirectory() && random.chance(20)) dressDirectory(random, join(path, entry.name));
    if (entry.isFile() && random.chance(20)) dressLeaf(random, join(path, entry.name));
  }
}

function addEntry(
  random: Random,
  parent: string,
  number: number,
  directories: string[],
  leaves: string[],
): void {
  const name = `${random.pick(NAMES)}${number}${"n".repeat(random.chance(5) ? 200 : 0)}`;
  const place = join(parent, name);
  if (lstatSync(place, { throwIfNoEntry: false }) !== undefined) return;
  const kind = random.below(10);
  if (kind < 3) {
    mkdirSync(place);
    directories.push(place);
    return;
  }
  if (kind === 3) symlinkSync(random.pick(["t", "../a b", "ü/\u{1f600}", "x".repeat(3000)]), place);
  else if (kind === 4 && leaves.length > 0) linkat(null, random.pick(leaves), null, place);
  else writeFileSync(place, makeContent(random));
  leaves.push(place);
}

function makeContent(random: Random): Uint8Array {
  const size = random.chance(3) ? 2_500_000 : random.pick(SIZES);
  const bytes = new Uint8Array(size);
  // Half of it compresses.
  const step = random.below(256);
  for (let i = 0; i < size; i++) bytes[i] = i % 4096 < 2048 ? step : random.below(256);
  return bytes;
}

/** So many files that the directory's object has offsets of two or four bytes. */
function addCrowd(random: Random, parent: string, directories: string[]): void {
  const place = join(parent, "crowd");
  mkdirSync(place);
  directories.push(place);
  const count = random.pick([7, 300, 1800]);
  for (let i = 0; i < count; i++) writeFileSync(join(place, `f${random.below(1e9)}-${i}`), "same");
}

function dressLeaf(random: Random, path: string): void {
  if (random.chance(30)) fchownat(null, path, random.below(3), random.pick([0, 5, 1000, 70_000]));
  const isLink = lstatSync(path).isSymbolicLink();
  if (!isLink) fchmodat(null, path, random.pick(MODES));
  if (random.chance(25)) setXattrs(random, path, isLink);
  utimensat(null, path, random.below(2e9), 5);
}

function dressDirectory(random: Random, path: string): void {
  if (random.chance(30)) fchownat(null, path, random.below(3), random.below(3));
  if (random.chance(50)) fchmodat(null, path, random.pick([0o755, 0o700, 0o1777, 0o2750]));
  if (random.chance(15)) setXattrs(random, path, false);
}

function setXattrs(random: Random, path: string, isLink: boolean): void {
  for (const name of XATTRS) {
    // The kernel keeps user attributes to files and directories.
    if (random.chance(60) || (isLink && name.startsWith("user."))) continue;
    const value = new Uint8Array(random.pick([0, 1, 5, 300])).map(() => random.below(256));
    lsetxattr(path, name, value);
  }
}
