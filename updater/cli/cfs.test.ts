// `bootc internals fsck` and `cfs` on a scratch repository, without a booted system.

import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { type BuiltImage, writeLayout } from "../../test/support/oci-builder.ts";
import { makeOs } from "../../test/support/small-os.ts";
import { makeCfsCommand } from "./cfs.ts";
import { makeFsckCommand } from "./fsck.ts";

let scratch: string;
let repo: string;
let built: BuiltImage;
let deploymentId: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "cfs-"));
  repo = join(scratch, "repo");
  [built] = writeLayout(join(scratch, "layout"), [await makeOs()]) as [BuiltImage];
  await cfs("init", "--insecure");
  const lines = await cfs("oci", "pull", `oci:${scratch}/layout:v1`, "debian/x", "--bootable");
  deploymentId = lines.at(-1)!.replace("Boot image: ", "");
  expect(lines).toEqual([
    `manifest ${built.manifest.digest}`,
    `config   ${built.config.digest}`,
    "tagged   debian/x",
    `Boot image: ${deploymentId}`,
  ]);
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** Lines on stdout; rejects as the program fails. */
async function run(
  make: typeof makeCfsCommand | typeof makeFsckCommand,
  argv: readonly string[],
  lines: string[] = [],
): Promise<string[]> {
  const nothing = () => {};
  const command = make({
    write: nothing,
    line: (text) => void lines.push(text),
    note: nothing,
    progress: nothing,
    columns: null,
    isInteractive: false,
  });
  await command.parseAsync([...argv], { from: "user" });
  return lines;
}
const cfs = (...argv: string[]) => run(makeCfsCommand, ["--repo", repo, ...argv]);
const fsck = (lines: string[], ...argv: string[]) => run(makeFsckCommand, argv, lines);

test("images, tags and ids", async () => {
  const { digest } = built.manifest;
  expect(await cfs("images")).toContain(deploymentId);
  expect(JSON.parse((await cfs("images", "--json"))[0]!)).toHaveLength(2);
  await cfs("oci", "tag", digest, "second");
  expect(await cfs("oci", "images")).toEqual([
    `${digest} debian/x`,
    `${digest} localhost/bootc-${digest}`,
    `${digest} second`,
  ]);
  expect(JSON.parse((await cfs("oci", "images", "--json"))[0]!)).toContainEqual({
    name: "second",
    manifest_digest: digest,
  });
  for (const name of ["second", "debian/x", `@${digest}`]) {
    expect(await cfs("image", "id", name, "--bootable")).toEqual([deploymentId]);
  }
  expect(await cfs("image", "id", "second")).not.toEqual([deploymentId]);
  await expect(cfs("image", "id", "third")).rejects.toThrow('has no image "third"');
  await expect(cfs("oci", "tag", "sha256:0", "x")).rejects.toThrow("is not in");
  await expect(cfs("oci", "tag", digest, "@x")).rejects.toThrow("cannot be the name of a tag");
});

test("nothing is collected that a tag keeps", async () => {
  expect(await cfs("gc", "-n")).toEqual([
    "Dry run (no files deleted)",
    expect.stringMatching(/^Objects: \d+ removed/),
  ]);
  await cfs("gc");
  expect(await cfs("gc")).toEqual(["Objects: 0 removed (0 bytes)"]);
  expect((await cfs("fsck"))[0]).toMatch(/^ok: repository: \d+ objects/);
});

test("a good repository: a line for each part and the sum", async () => {
  expect(await fsck([], "--repo", repo)).toEqual([
    expect.stringMatching(/^ok: repository: \d+ objects, 5 streams, 2 images, \d refs$/),
    expect.stringMatching(/^ok: OCI images: \d tags, 1 manifests, 3 layers$/),
    `Repository "${repo}" has no problems`,
  ]);
  const [line] = await fsck([], "--repo", repo, "--format", "json");
  expect(JSON.parse(line!)).toMatchObject({ ok: true, checked: { manifests: 1 }, errors: [] });
});

test("a damaged one: findings, then a failure", async () => {
  const bad = join(scratch, "bad");
  await run(makeCfsCommand, ["--repo", bad, "init", "--insecure"]);
  const digest = "ab".repeat(64);
  mkdirSync(join(bad, "objects/ab"), { recursive: true });
  appendFileSync(join(bad, "objects", objectPath(digest)), "x");
  const lines: string[] = [];
  await expect(fsck(lines, "--repo", bad)).rejects.toThrow(`"${bad}" has 1 problem`);
  const where = `objects/${objectPath(digest)}`;
  expect(lines).toEqual([
    `fsck error: object-digest-mismatch: ${where}: Its content is not what its name says; remove it and pull its image again`,
    "ok: OCI images: 0 tags, 0 manifests, 0 layers",
  ]);
  expect(await fsck([], "--repo", bad, "--metadata-only")).toHaveLength(3);

  writeFileSync(join(bad, "meta.json"), "{");
  const json: string[] = [];
  await expect(fsck(json, "--repo", bad, "--format", "json")).rejects.toThrow("has 1 problem");
  expect(JSON.parse(json[0]!)).toMatchObject({
    ok: false,
    errors: [{ type: "metadata-parse-failed", path: "meta.json" }],
  });
});

test("no repository", async () => {
  await expect(fsck([], "--repo", join(scratch, "nothing"))).rejects.toThrow("No composefs");
});
