// `fsck --repair` as it is typed and read, on a scratch repository without a booted system.

import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { setRef } from "../../shared/store/refs.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { makeFsckCommand } from "../../updater/cli/fsck.ts";
import { makeBootImage, tagRefName } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { type BuiltImage, writeLayout } from "../support/oci-builder.ts";
import { makeOs } from "../support/small-os.ts";

let scratch: string;
let layout: string;
let good: string;
let repo: string;
let built: BuiltImage;
let deploymentId: string;

beforeAll(async () => {
  // In memory where that is possible: every step of every repair is synced.
  scratch = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "fsck-repair-"));
  layout = join(scratch, "layout");
  good = join(scratch, "good");
  [built] = writeLayout(layout, [await makeOs()]) as [BuiltImage];
  using made = ensureRepository(null, good, { algorithm: "sha512", secure: false });
  const pulled = await pullImage(made, openSource(makeImageReference("oci", layout)));
  ({ deploymentId } = await makeBootImage(made, pulled));
  setRef(made, "streams", tagRefName(`oci:${layout}`), `oci-manifest-${built.manifest.digest}`);
});
beforeEach(() => {
  repo = join(mkdtempSync(join(scratch, "case-")), "repo");
  cpSync(good, repo, { recursive: true, verbatimSymlinks: true });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Said {
  readonly lines: readonly string[];
  readonly notes: readonly string[];
  /** Message of the failure, which is exit code 1. */
  readonly error: string | null;
}

async function fsck(...argv: string[]): Promise<Said> {
  const [lines, notes]: [string[], string[]] = [[], []];
  const command = makeFsckCommand({
    write: () => {},
    line: (text) => void lines.push(text),
    note: (text) => void notes.push(text),
    progress: () => {},
    columns: null,
    isInteractive: false,
  });
  try {
    await command.parseAsync(["--repo", repo, ...argv], { from: "user" });
    return { lines, notes, error: null };
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    return { lines, notes, error: error.message };
  }
}

const stored = (digest: string) => join(repo, "objects", objectPath(digest));
/** The largest object: the initramfs, a file of the second layer. */
function damageLargest(): string {
  const objects = join(repo, "objects");
  const files = readdirSync(objects, { recursive: true }).map((name) =>
    join(objects, String(name)),
  );
  const sizes = files.map((file) => [statSync(file).size, file] as const);
  const [, largest] = sizes.toSorted(([a], [b]) => b - a)[0]!;
  appendFileSync(largest, "x");
  return largest.slice(repo.length + 1);
}

test("repairs from the place that the tag names", async () => {
  const path = damageLargest();
  unlinkSync(stored(deploymentId));
  const before = await fsck();
  expect(before.error).toMatch(/ has \d problems$/);
  expect(before.lines.join("\n")).toContain(`object-digest-mismatch: ${path}`);
  const { lines, notes, error } = await fsck("--repair");
  expect(error).toBeNull();
  expect(notes).toEqual([
    `repaired: fetch 1 damaged object of layer ${built.layers[1]!.diffId} of image ${built.manifest.digest}`,
    `repaired: build image ${deploymentId} again from the layers of ${built.manifest.digest}`,
  ]);
  expect(lines.at(-1)).toBe(`Repository "${repo}" has no problems`);
  expect((await fsck()).error).toBeNull();
  expect((await fsck("--repair")).notes).toEqual([]);
});

test("--dry-run says what it would do, and does not", async () => {
  const path = damageLargest();
  const content = readFileSync(join(repo, path));
  const { lines, error } = await fsck("--repair", "--dry-run");
  expect(lines.at(-1)).toBe(
    `would repair: fetch 1 damaged object of layer ${built.layers[1]!.diffId} of image ${built.manifest.digest}`,
  );
  expect(error).toMatch(/ has \d problems?$/);
  expect(readFileSync(join(repo, path)).equals(content)).toBe(true);
});

test("a source that is gone: what, for whom, why, and what to do", async () => {
  const path = damageLargest();
  renameSync(layout, `${layout}-moved`);
  try {
    const { lines, error } = await fsck("--repair");
    expect(error).toMatch(/ still has \d problems?$/);
    const line = lines.find((each) => each.includes(path))!;
    expect(line).toContain("fsck error: object-digest-mismatch: ");
    expect(line).toContain(`needed by tag "localhost/bootc-${built.manifest.digest}" (image `);
    expect(line).toContain(`There is no directory "${layout}"`);
    expect(line).toContain('name a place that still has the image with "--source" (tried: ');
    const json = await fsck("--repair", "--format", "json");
    const { ok, errors, repairs } = JSON.parse(json.lines[0]!);
    expect([ok, repairs[0].type, repairs[0].error]).toEqual([
      false,
      "fetch-layer",
      expect.stringContaining("Nothing was fetched"),
    ]);
    expect(errors[0]).toMatchObject({
      type: "object-digest-mismatch",
      path,
      object: path.replaceAll(/objects|\//g, ""),
      reason: expect.stringContaining("Nothing was fetched"),
      neededBy: expect.arrayContaining([expect.stringContaining(built.manifest.digest)]),
    });
    expect((await fsck("--repair", "--source", `oci:${layout}-moved`)).error).toBeNull();
  } finally {
    renameSync(`${layout}-moved`, layout);
  }
});

test("JSON of a repair that worked", async () => {
  damageLargest();
  const { lines, error } = await fsck("--repair", "--format", "json");
  expect([error, lines.length]).toEqual([null, 1]);
  expect(JSON.parse(lines[0]!)).toMatchObject({
    ok: true,
    errors: [],
    repairs: [{ type: "fetch-layer", image: built.manifest.digest }],
  });
});

test("a repository from before meta.json is brought up to date", async () => {
  const meta = readFileSync(join(repo, "meta.json"), "utf8");
  unlinkSync(join(repo, "meta.json"));
  expect((await fsck("--repair", "--dry-run")).error).toContain("it has no meta.json");
  expect((await fsck("--repair")).error).toBeNull();
  expect(readFileSync(join(repo, "meta.json"), "utf8")).toBe(meta);
});

test("meta.json that cannot be read is not guessed at", async () => {
  writeFileSync(join(repo, "meta.json"), "{");
  const { lines, error } = await fsck("--repair");
  expect(lines[0]).toContain("fsck error: metadata-parse-failed: meta.json: ");
  expect(error).toContain("has 1 problem");
  expect(readFileSync(join(repo, "meta.json"), "utf8")).toBe("{");
});

test("a repository that only a newer program may change", async () => {
  const meta = join(repo, "meta.json");
  writeFileSync(meta, readFileSync(meta, "utf8").replace('"v1_erofs"', '"v1_erofs", "later"'));
  const path = damageLargest();
  const content = readFileSync(join(repo, path));
  expect((await fsck("--repair")).error).toContain(
    'a newer program\'s feature "later"; update bootc',
  );
  expect(readFileSync(join(repo, path)).equals(content)).toBe(true);
});

test.each([
  [["--dry-run"], '"--dry-run" needs "--repair"'],
  [["--source", "oci:/x"], '"--source" needs "--repair"'],
  [["--repair", "--source", "nonsense"], '"nonsense" is not of the form "transport:image"'],
])("refuses %j", async (argv, message) => {
  await expect(fsck(...argv)).rejects.toThrow(message);
});
