// Our EROFS writer, reader and dump printer beside the real mkcomposefs, composefs-info and fsck.erofs
// (Debian's, in the tools root) on seeded random trees: the same images and the same dumps, byte for
// byte. `npm run test:all` takes ten times as many trees; a failure names its seed.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ErofsFormat } from "../../shared/format/erofs/format.ts";
import { readErofs } from "../../shared/format/erofs/reader.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import { parseDump } from "../../shared/format/tree/dump.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { makeRandomDump } from "../support/random-dump.ts";
import { ensureToolsRoot, runTool } from "../vm/tools-root.ts";

const TREES = process.env["TEST_ALL"] === undefined ? 500 : 5000;
const FSCK_TREES = TREES / 10;
const BATCH = 250;
const VERSIONS = [0, 1] as const;

const scratch = mkdtempSync(join(tmpdir(), "oracle-composefs-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
beforeAll(async () => {
  await ensureToolsRoot();
});

function dumpOf(seed: number, portable = false): Buffer {
  return Buffer.from(makeRandomDump(seed, { portable }), "latin1");
}

/** For each dump in `$1`: "NAME VERSION DIGEST" on a line, and composefs-info's dump in a file. */
const MAKE_IMAGES = `
cd "$1"
for dump in *.dump; do
  name=\${dump%.dump}
  for version in 0 1; do
    digest=$(mkcomposefs --min-version=$version --max-version=$version --print-digest \\
      --from-file $dump image 2>&1) || digest="failed: $digest"
    composefs-info dump image >$name.$version.printed 2>&1 || true
    rm -f image
    echo "$name $version $digest"
  done
done`;

async function askMkcomposefs(directory: string): Promise<Map<string, string>> {
  const output = await runTool(["sh", "-c", MAKE_IMAGES, "sh", directory]);
  const answers = new Map<string, string>();
  for (const line of output.trimEnd().split("\n")) {
    const [name, version, ...rest] = line.split(" ");
    answers.set(`${name} ${version}`, rest.join(" "));
  }
  return answers;
}

// composefs-info loses an xattr whose stored name and value are both empty.
const withoutEmptyXattrs = (dump: string) =>
  dump.replace(
    / (?:user\.|trusted\.|security\.|system\.posix_acl_(?:access|default))=(?=[ \n])/g,
    "",
  );

const batches = Array.from({ length: TREES / BATCH }, (_, i) => i * BATCH);

describe.each(batches)("mkcomposefs on %i and the next trees", (first) => {
  test("images and dumps agree", async () => {
    const directory = join(scratch, `batch-${first}`);
    mkdirSync(directory);
    const seeds = Array.from({ length: BATCH }, (_, i) => first + i);
    for (const seed of seeds) writeFileSync(join(directory, `${seed}.dump`), dumpOf(seed));
    const answers = await askMkcomposefs(directory);
    expect(answers.size).toBe(2 * BATCH);
    for (const seed of seeds) {
      const root = parseDump(dumpOf(seed));
      for (const version of VERSIONS) {
        const image = writeErofs(root, { version, dialect: "c" });
        const where = `seed ${seed}, version ${version}`;
        expect(`${where}: ${computeVerityDigest(image, "sha256")}`).toBe(
          `${where}: ${answers.get(`${seed} ${version}`)}`,
        );
        const printed = readFileSync(join(directory, `${seed}.${version}.printed`), "latin1");
        const ours = [...formatDump(readErofs(image, { dialect: "c" }).root)].join("");
        expect(withoutEmptyXattrs(ours), where).toBe(withoutEmptyXattrs(printed));
      }
    }
  });
});

const FSCK = `
cd "$1"
for image in *.erofs; do fsck.erofs $image >output 2>&1 || { echo "$image: $(cat output)"; }; done`;

describe("fsck.erofs", () => {
  const formats: readonly ErofsFormat[] = [
    { version: 1, dialect: "rust" },
    { version: 2, dialect: "rust" },
  ];
  test.each(formats)("accepts version $version, dialect $dialect", async (format) => {
    const directory = join(scratch, `fsck-${format.version}`);
    mkdirSync(directory);
    for (let seed = 0; seed < FSCK_TREES; seed++) {
      const image = writeErofs(parseDump(dumpOf(seed, true)), format);
      writeFileSync(join(directory, `${seed}.erofs`), image);
    }
    expect(await runTool(["sh", "-c", FSCK, "sh", directory])).toBe("");
  });
});
