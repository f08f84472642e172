// The threads are real ones: without helpers, with one and with several.

import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { toHex } from "../../shared/bytes/hex.ts";
import {
  computeVerityDigest,
  objectPath,
  type VerityAlgorithm,
} from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import { openDigestStore } from "./digest-store.ts";
import { createFileMeter, measureFile } from "./file-digest.ts";
import { adoptFile, createHashPool, drainPool, type HashPool } from "./hash-pool.ts";

const scratch = mkdtempSync(join(tmpdir(), "hash-pool-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const MIB = 1 << 20;
/** Around every limit; eleven files are enough for a helper to be started. */
const SIZES = [1, 65, 4096, 4097, 32_768, 32_769, MIB - 1, MIB, MIB + 1, 3 * MIB + 5, 9 * MIB];

function makeFiles(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const path = join(scratch, `${name}-${index}`);
    writeFileSync(path, Buffer.alloc(SIZES[index % SIZES.length]!, `content ${index % 40} `));
    return path;
  });
}

/** Digests by file. `onOpen` may do something to a file between its being looked at and read. */
function measureAll(
  pool: HashPool,
  paths: readonly string[],
  onOpen: (path: string, file: Fd) => void = () => {},
): string[] {
  const meter = createFileMeter(pool);
  const digests: string[] = [];
  for (const [index, path] of paths.entries()) {
    const file = openat(null, path, O.RDONLY);
    adoptFile(pool, file);
    const stat = fstat(file);
    onOpen(path, file);
    measureFile(meter, file, stat, (digest) => {
      digests[index] = toHex(digest);
    });
  }
  drainPool(pool);
  return digests;
}

const ended = (helper: Worker) =>
  new Promise((resolve) => helper.addEventListener("close", resolve, { once: true }));

describe.each([1, 2, 5])("%i threads", { timeout: 60_000 }, (threads) => {
  test.each<VerityAlgorithm>(["sha256", "sha512"])("digests of many files, %s", (algorithm) => {
    const paths = makeFiles(algorithm, 33);
    using pool = createHashPool({ algorithm, threads, store: null });
    const wanted = paths.map((path) => computeVerityDigest(readFileSync(path), algorithm));
    expect(measureAll(pool, paths)).toEqual(wanted);
    expect(pool.helpers.length > 0).toBe(threads > 1);
    expect(pool.helpers.length).toBeLessThan(threads);
    expect(pool.files.size).toBe(0);
  });

  test("copies to a store", () => {
    const paths = makeFiles("stored", 22);
    const path = join(scratch, `store-${threads}`);
    using store = openDigestStore(path);
    using pool = createHashPool({ algorithm: "sha256", threads, store });
    for (const [index, digest] of measureAll(pool, paths).entries()) {
      const copy = readFileSync(join(path, objectPath(digest)));
      expect(copy.equals(readFileSync(paths[index]!))).toBe(true);
    }
    expect(store.hasNew).toBe(true);
    expect(readdirSync(path).filter((name) => name.length !== 2)).toEqual([]);
  });

  test.each([
    ["grows", (path: string) => appendFileSync(path, "more")],
    ["shrinks", (path: string) => truncateSync(path, 5)],
    ["is written to", (path: string) => writeFileSync(path, readFileSync(path))],
  ])("a file that %s while it is read is refused, the first of two", (verb, change) => {
    const name = `changing-${verb.replaceAll(" ", "-")}`;
    // A file that is read as a whole, and one that is read in ranges.
    for (const victim of [18, 20]) {
      const paths = makeFiles(name, 33);
      const files: Fd[] = [];
      const measure = () => {
        using pool = createHashPool({ algorithm: "sha256", threads, store: null });
        measureAll(pool, paths, (path, file) => {
          files.push(file);
          if (path === paths[victim] || path === paths[victim + 11]) change(path);
        });
      };
      expect(measure).toThrow(`"${paths[victim]}" was changed while it was read`);
      for (const file of files) expect(() => file.number).toThrow("after it was closed");
    }
  });

  test("disposing ends helpers that have work left", async () => {
    const paths = makeFiles("left", 33);
    const meter = createFileMeter(createHashPool({ algorithm: "sha256", threads, store: null }));
    const { pool } = meter;
    for (const path of paths) {
      const file = openat(null, path, O.RDONLY);
      adoptFile(pool, file);
      measureFile(meter, file, fstat(file), () => {});
    }
    const helpers = pool.helpers.map(ended);
    pool[Symbol.dispose]();
    await Promise.all(helpers);
    expect(pool.files.size).toBe(0);
  });
});

test("nobody is started for little", () => {
  const paths = makeFiles("little", 6);
  using pool = createHashPool({ algorithm: "sha256", threads: 8, store: null });
  measureAll(pool, paths);
  expect(pool.helpers).toEqual([]);
});
