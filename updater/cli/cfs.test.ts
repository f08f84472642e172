// `bootc internals fsck` and `cfs` on a scratch repository, without a booted system.

import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { removeRef, setRef } from "../../shared/store/refs.ts";
import { openRepository } from "../../shared/store/repository.ts";
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
    expect.stringMatching(/^verity {3}[0-9a-f]{128}$/),
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

test("tags and ids", async () => {
  const { digest } = built.manifest;
  expect(await cfs("oci", "tag", digest, "second")).toEqual([`Tagged ${digest} as second`]);
  const short = digest.slice("sha256:".length, "sha256:".length + 12);
  expect((await cfs("oci", "images")).filter((line) => line.includes(short))).toEqual([
    `│ debian/x ┆ ${short} ┆ amd64 ┆ 3      ┆ 0    │`,
    `│ second   ┆ ${short} ┆ amd64 ┆ 3      ┆ 0    │`,
  ]);
  expect(JSON.parse((await cfs("oci", "ls", "--json"))[0]!).images[1]).toEqual({
    name: "second",
    manifest_digest: digest,
    is_container: true,
    architecture: "amd64",
    os: "linux",
    created: "2025-01-02T03:04:05Z",
    layer_count: 3,
    referrer_count: 0,
  });
  for (const name of ["second", "debian/x", `@${digest}`, `@${built.config.digest}`]) {
    expect(await cfs("oci", "compute-id", name, "--bootable")).toEqual([deploymentId]);
    expect(await cfs("image", "id", name, "--bootable")).toEqual([deploymentId]);
  }
  const [plainId] = await cfs("oci", "compute-id", "second");
  const inspected = JSON.parse((await cfs("oci", "inspect", "second"))[0]!);
  expect(inspected).toMatchObject({
    referrers: [],
    composefs_erofs: plainId,
    composefs_boot_erofs: deploymentId,
  });
  expect(JSON.parse(inspected.manifest).config.digest).toBe(built.config.digest);
  expect(await cfs("oci", "untag", "second")).toEqual(["Removed tag second"]);
});

test.each([
  [["oci", "untag", "third"], 'has no tag "third"'],
  [["image", "id", "third"], 'has no image "third"'],
  [["oci", "compute-id", "@x"], "is not a digest"],
  [["oci", "inspect", `@sha256:${"00".repeat(32)}`], "is not in"],
  [["oci", "inspect", "debian/x", "--manifest", "--config"], "exclude each other"],
  [["oci", "tag", `sha256:${"00".repeat(32)}`, "x"], "is not in"],
  [["oci", "tag", "sha256:0", "x"], "is not a digest"],
  [["oci", "tag", `sha256:${"00".repeat(32)}`, "@x"], "cannot be the name of a tag"],
  [["oci", "fsck", "third"], 'has no image "third"'],
  [["oci", "mount", "debian/x", "/tmp", "--read-write"], "needs --upperdir"],
  [["oci", "mount", "debian/x", "/tmp", "--upperdir", "/tmp"], "need each other"],
  [["image-objects", "nothing"], 'has no image "nothing"'],
  [["dump-files", "nothing", "/x"], 'has no image "nothing"'],
  [["cat", "oci-layer-sha256:0"], "has no stream"],
])("%j is refused", async (argv, message) => {
  await expect(cfs(...argv)).rejects.toThrow(message);
});

test("EROFS images by digest and by reference", async () => {
  expect(await cfs("images")).toEqual(["No images found"]);
  const objects = await cfs("image-objects", deploymentId);
  expect(objects.length).toBeGreaterThan(2);
  expect(objects).toEqual(objects.toSorted());
  expect(objects[0]).toMatch(/^sha512:[0-9a-f]{128}$/);
  expect(await cfs("image-objects", `sha512:${deploymentId}`)).toEqual(objects);

  using opened = openRepository(null, repo);
  setRef(opened, "images", "group/name", deploymentId);
  const row = `│ group/name ┆ ${deploymentId.slice(0, 12)} │`;
  expect(await cfs("images")).toContain(row);
  expect(JSON.parse((await cfs("images", "--json"))[0]!)).toEqual({
    images: [{ name: "group/name", digest: deploymentId }],
  });
  expect((await cfs("images", "--no-trunc")).join()).toContain(deploymentId);
  for (const name of ["group/name", "refs/group/name"]) {
    expect(await cfs("image-objects", name)).toEqual(objects);
  }
  removeRef(opened, "images", "group/name");
});

test("where a file's content is", async () => {
  const lines = await cfs(
    ...["dump-files", deploymentId, "/usr/bin/tool", "usr/bin/soft", "/etc/small"],
    "--backing-path-only",
  );
  expect(lines).toEqual([
    expect.stringMatching(/^\/usr\/bin\/tool [0-9a-f]{2}\/[0-9a-f]{126}$/),
    "usr/bin/soft inline",
    "/etc/small inline",
  ]);
  const directory = cfs("dump-files", deploymentId, "/usr", "--backing-path-only");
  await expect(directory).rejects.toThrow("is a directory");
  await expect(cfs("dump-files", deploymentId, "/no")).rejects.toThrow("is not in the image");
});

test("nothing is collected that a tag keeps", async () => {
  expect(await cfs("gc", "-n")).toEqual([
    "Dry run (no files deleted):",
    expect.stringMatching(/^Objects: \d+ removed/),
  ]);
  await cfs("gc");
  expect(await cfs("gc")).toEqual(["Objects: 0 removed (0 bytes)"]);
});

test("a good repository in cfsctl's words", async () => {
  const fine = ["meta.json: ok", /^objects: (\d+)\/\1 ok$/, "streams: 5/5 ok", "images: 2/2 ok"];
  const lines = fine.map((line) => (typeof line === "string" ? line : expect.stringMatching(line)));
  expect(await cfs("fsck")).toEqual([...lines, "status: ok"]);
  expect(await cfs("oci", "fsck")).toEqual([...lines, "status: ok", "oci images: 1/1 ok"]);
  expect(JSON.parse((await cfs("oci", "fsck", "debian/x", "--json"))[0]!)).toMatchObject({
    ok: true,
    images_checked: 1,
    images_corrupted: 0,
    errors: [],
    repo: { ok: true, has_metadata: true, streams_checked: 5, broken_links: 0, errors: [] },
  });
});

describe("init", () => {
  const at = (name: string) => join(scratch, name);
  const init = (...argv: string[]) => run(makeCfsCommand, ["init", ...argv]);
  const described = (path: string, algorithm: string) => [
    `Initialized composefs repository at ${path}`,
    `  algorithm: fsverity-${algorithm}-12`,
    "  verity:    not required (insecure)",
  ];
  const formats = (path: string) => {
    const { features, erofs_formats } = JSON.parse(readFileSync(join(path, "meta.json"), "utf8"));
    return [features["read-only-compatible"], erofs_formats];
  };

  test("makes parents, and a repository of the format that is asked for", async () => {
    const path = at("a/b/c");
    expect(await init(path, "--insecure")).toEqual(described(path, "sha512"));
    expect(formats(path)).toEqual([["v1_erofs"], { default: 1 }]);
    expect(await init(path, "--insecure")).toEqual([`Repository already initialized at ${path}`]);
    const argv = ["--insecure", "--erofs-version", "2", "--repo", at("two"), "init"];
    await run(makeCfsCommand, argv);
    expect(formats(at("two"))).toEqual([[], { default: 2 }]);
  });

  test("keeps what is there", async () => {
    const path = at("kept");
    await init(path, "--insecure", "--algorithm", "fsverity-sha256-12", "--erofs-version", "0");
    expect(formats(path)).toEqual([[], { default: 0 }]);
    const other = [path, "--insecure", "--algorithm", "fsverity-sha256-12"];
    await expect(init(...other)).rejects.toThrow("EROFS format 0, insecure, not with sha256");
    await expect(init(path, "--insecure")).rejects.toThrow("uses sha256, but sha512 is wanted");
    expect(await init(...other, "--ensure")).toEqual([
      `Repository already initialized at ${path} (existing configuration preserved)`,
    ]);
  });

  test("--reset-metadata takes names away and leaves objects", async () => {
    const path = at("reset");
    await init(path, "--insecure");
    const hash = (name: string) => [...["--repo", path, "--hash", name], "gc"];
    await expect(run(makeCfsCommand, hash("sha256"))).rejects.toThrow("uses sha512, not sha256");
    for (const name of ["streams", "images", "objects/ab"]) {
      mkdirSync(join(path, name), { recursive: true });
    }
    writeFileSync(join(path, "objects/ab", "cd".repeat(63)), "x");
    const argv = ["--insecure", "--algorithm", "fsverity-sha256-12", "--reset-metadata"];
    expect(await init(path, ...argv)).toEqual(described(path, "sha256"));
    expect(readdirSync(path).sort()).toEqual(["meta.json", "objects"]);
    expect(readdirSync(join(path, "objects/ab"))).toHaveLength(1);
  });

  test("--require-verity refuses an insecure repository, --no-repo all of them", async () => {
    await init(at("insecure"), "--insecure");
    const argv = ["--repo", at("insecure"), "--require-verity", "gc"];
    await expect(run(makeCfsCommand, argv)).rejects.toThrow("does without fs-verity");
    await expect(run(makeCfsCommand, ["--no-repo", "gc"])).rejects.toThrow("needs a repository");
    const old = at("old");
    mkdirSync(join(old, "objects/ab"), { recursive: true });
    writeFileSync(join(old, "objects/ab", "cd".repeat(63)), "x");
    const refused = run(makeCfsCommand, ["--repo", old, "--no-upgrade", "gc", "-n"]);
    await expect(refused).rejects.toThrow("has no meta.json");
    await run(makeCfsCommand, ["--repo", old, "gc", "-n"]);
    expect(formats(old)).toEqual([["v1_erofs"], { default: 1 }]);
  });
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
  const said: string[] = [];
  await expect(run(makeCfsCommand, ["--repo", bad, "fsck"], said)).rejects.toThrow(
    "repository integrity check failed",
  );
  expect(said).toContain("status: 1 error(s)");
  expect(said.at(-1)).toMatch(/^ {2}- fsck: object-digest-mismatch: objects\/ab/);
  const [asJson] = await run(makeCfsCommand, ["--repo", bad, "fsck", "--json"]);
  expect(JSON.parse(asJson!)).toMatchObject({
    ok: false,
    objects_checked: 1,
    objects_corrupted: 1,
  });
  const lines: string[] = [];
  await expect(fsck(lines, "--repo", bad)).rejects.toThrow(`"${bad}" has 1 problem`);
  const where = `objects/${objectPath(digest)}`;
  expect(lines).toEqual([
    expect.stringContaining(`fsck error: object-digest-mismatch: ${where}: Its content is not`),
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
