// Random damage: a check names it and never crashes, a repair makes nothing worse, and whatever the source
// still has is good again. TEST_ALL makes many more.

import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { collectGarbage } from "../../shared/store/gc.ts";
import {
  check,
  deploymentId,
  good,
  repair,
  repo,
  useRepository,
} from "../support/damaged-repository.ts";
import { listContents } from "../support/repair-scenario.ts";
import { findDamage } from "../support/repository-listing.ts";

const SEEDS = process.env["TEST_ALL"] === undefined ? 60 : 2000;

useRepository();

/** Numbers below `limit`, the same for the same seed. */
function makeRandom(seed: number): (limit: number) => number {
  let state = seed * 2654435761 + 1;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % limit;
  };
}

/** Names of files and links, or of directories, below the repository. */
function listNames(wanted: "leaf" | "directory"): string[] {
  const names = readdirSync(repo.path, { recursive: true }).map(String).sort();
  return names.filter(
    (name) =>
      name !== "meta.json" &&
      lstatSync(join(repo.path, name)).isDirectory() === (wanted === "directory"),
  );
}

type Harm = (path: string, random: (limit: number) => number) => void;
const HARMS: readonly Harm[] = [
  (path) => rmSync(path),
  (path) => lstatSync(path).isFile() && appendFileSync(path, "x"),
  (path, random) =>
    lstatSync(path).isFile() && truncateSync(path, random(lstatSync(path).size + 1)),
  (path, random) => {
    if (!lstatSync(path).isFile()) return;
    const bytes = readFileSync(path);
    if (bytes.length > 0) bytes[random(bytes.length)]! ^= 1 << random(8);
    writeFileSync(path, bytes);
  },
  (path) => {
    rmSync(path);
    symlinkSync("../elsewhere", path);
  },
  (path) => {
    rmSync(path);
    writeFileSync(path, "something else");
  },
  (path) => renameSync(path, `${path}x`),
  (path) => writeFileSync(join(dirname(path), "stranger"), ""),
  (path) => mkdirSync(join(dirname(path), "dir"), { recursive: true }),
];

test.each(Array.from({ length: 900 }, (_, seed) => [seed + 2000]))("seed %d", async (seed) => {
  const random = makeRandom(seed + 1);
  for (let count = 1 + random(5); count > 0; count--) {
    const leaves = listNames("leaf");
    const name = leaves[random(leaves.length)];
    if (name !== undefined) HARMS[random(HARMS.length)]!(join(repo.path, name), random);
  }
  if (random(10) === 0) {
    const directories = listNames("directory");
    rmSync(join(repo.path, directories[random(directories.length)]!), { recursive: true });
  }
  const before = listContents(repo.path);
  const wanted = listContents(good);
  const found = await check();
  const result = await repair();
  const after = listContents(repo.path);
  // A stream's name may be moved to another object of the same content.
  const intact = [...wanted].filter(
    ([name, content]) => before.get(name) === content && !/^streams\/oci-/.test(name),
  );
  for (const [name, content] of intact) expect(after.get(name), name).toBe(content);
  expect(findDamage(repo).length).toBeLessThanOrEqual(found.length);
  for (const { reason, advice } of result.remaining) {
    expect([reason.length, advice.length].every((length) => length > 5)).toBe(true);
  }
  // What the source has is back. Strangers stay, and so do references and names of images that are gone.
  const names = [...wanted.keys()].filter((name) => /\/refs\/|^images\//.test(name));
  if (!names.every((name) => before.get(name) === wanted.get(name))) return;
  for (const [name, content] of wanted) expect(after.get(name), name).toBe(content);
  expect(() => collectGarbage(repo, { roots: [deploymentId], dryRun: false })).not.toThrow();
  for (const [name, content] of wanted)
    expect(listContents(repo.path).get(name), name).toBe(content);
});
