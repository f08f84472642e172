// Every kind of damage a repository without fs-verity can have, done to one that is good.

import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FormatError } from "../error.ts";
import { writeErofs } from "../format/erofs/writer.ts";
import { SplitStreamWriter } from "../format/splitstream/writer.ts";
import { type DirectoryNode, NO_XATTRS } from "../format/tree/node.ts";
import { objectPath } from "../format/verity/digest.ts";
import { checkRepository, metadataFinding } from "./fsck.ts";
import { publishImage } from "./images.ts";
import { formatMetadata } from "./metadata.ts";
import { storeObject } from "./objects.ts";
import { setRef } from "./refs.ts";
import { ensureRepository, openRepository, type Repository } from "./repository.ts";
import { publishStream } from "./streams.ts";

const METADATA = { uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: NO_XATTRS };
const OTHER = "ab".repeat(64);

let base: string;
let path: string;
let repo: Repository;
/** Digests. */
let layerFile: string;
let imageFile: string;
let layer: string;
let manifest: string;
let image: string;

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "fsck-"));
  path = join(base, "composefs");
  repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
  layerFile = store("layer file");
  imageFile = store("image file");
  layer = await publish("layer", layerFile);
  manifest = await publish("manifest", store("json"), { layer });
  image = publishImage(repo, makeImage(imageFile));
  setRef(repo, "streams", "oci/tag", "manifest");
  setRef(repo, "images", "deep/er/name", image);
});
afterEach(() => {
  repo[Symbol.dispose]();
  rmSync(base, { recursive: true });
});

const store = (text: string) => storeObject(repo, new Uint8Array(Buffer.from(text)));
const objectFile = (digest: string) => join(path, "objects", objectPath(digest));

function makeImage(digest: string): Uint8Array {
  const content = { kind: "external", sizeBytes: 10, digest, payload: objectPath(digest) } as const;
  const file = { kind: "file", mode: 0o100644, nlink: 1, ...METADATA, content } as const;
  const entries: DirectoryNode["entries"] = new Map([["file", file]]);
  const root: DirectoryNode = { kind: "directory", mode: 0o40755, ...METADATA, entries };
  return writeErofs(root, { version: 1, dialect: "rust" }, "sha512");
}

async function publish(name: string, digest: string, named: Record<string, string> = {}) {
  using writer = new SplitStreamWriter("sha512", "ocilayer");
  writer.writeExternal(digest, 10);
  for (const [key, ref] of Object.entries(named)) writer.addNamedRef(key, ref);
  const stream = storeObject(repo, Buffer.concat(await writer.finish()));
  publishStream(repo, name, stream);
  return stream;
}

function link(name: string, target: string): void {
  rmSync(join(path, name), { force: true });
  symlinkSync(target, join(path, name));
}

const kinds = (metadataOnly = false) =>
  checkRepository(repo, { metadataOnly }).findings.map((each) => `${each.kind} ${each.path}`);

test("a good repository has no findings", () => {
  expect(checkRepository(repo, { metadataOnly: false })).toEqual({
    findings: [],
    checked: { objects: 6, streams: 2, images: 1, refs: 2 },
  });
  expect(checkRepository(repo, { metadataOnly: true }).checked.objects).toBe(0);
});

test("an empty one has none", () => {
  using empty = ensureRepository(null, join(base, "empty"), { algorithm: "sha256", secure: false });
  expect(checkRepository(empty, { metadataOnly: false }).findings).toEqual([]);
});

test("temporary files of writers at work are none", () => {
  writeFileSync(join(path, "objects/.tmp-object-abc"), "");
  expect(kinds()).toEqual([]);
});

test("a finding says what to do", () => {
  appendFileSync(objectFile(layerFile), "x");
  expect(checkRepository(repo, { metadataOnly: false }).findings).toEqual([
    {
      kind: "object-digest-mismatch",
      path: `objects/${objectPath(layerFile)}`,
      problem: "Its content is not what its name says",
      advice: 'let "fsck --repair" fetch it again, or pull its image again',
      object: layerFile,
    },
  ]);
  expect(kinds(true)).toEqual([]);
});

const meta = () => join(path, "meta.json");
const stray = () => objectFile(layerFile).slice(0, -3);
const inPlace = (digest: string, work: (file: string) => void) => {
  unlinkSync(objectFile(digest));
  work(objectFile(digest));
};
const objectsOf = (digest: string) => join(path, "objects", digest.slice(0, 2));
/** Makes the path to an object endless. */
const loop = (digest: string) => {
  renameSync(objectsOf(digest), join(base, "moved"));
  symlinkSync(digest.slice(0, 2), objectsOf(digest));
};

const DAMAGE: readonly [string, () => unknown, () => readonly string[]][] = [
  [
    "meta.json is garbage",
    () => writeFileSync(meta(), "{"),
    () => ["metadata-parse-failed meta.json"],
  ],
  ["meta.json is missing", () => unlinkSync(meta()), () => ["metadata-parse-failed meta.json"]],
  [
    "meta.json is another's",
    () => writeFileSync(meta(), formatMetadata("sha256")),
    () => ["metadata-algorithm-mismatch meta.json"],
  ],
  [
    "a file among the objects has another name",
    () => writeFileSync(stray(), ""),
    () => [`object-invalid-name objects/${objectPath(layerFile).slice(0, -3)}`],
  ],
  [
    "a directory among the objects' directories has another name",
    () => mkdirSync(join(path, "objects/zz")),
    () => ["object-invalid-name objects/zz"],
  ],
  [
    "a directory of objects is a file",
    () => {
      rmSync(objectsOf(imageFile), { recursive: true });
      writeFileSync(objectsOf(imageFile), "");
    },
    () => [
      `unexpected-file-type objects/${imageFile.slice(0, 2)}`,
      `image-missing-object images/${image}`,
    ],
  ],
  [
    "an object is a pipe",
    () => inPlace(imageFile, (file) => execFileSync("mkfifo", [file])),
    () => [
      `unexpected-file-type objects/${objectPath(imageFile)}`,
      `image-missing-object images/${image}`,
    ],
  ],
  [
    "an object is cut short",
    () => truncateSync(objectFile(layerFile), 3),
    () => [`object-digest-mismatch objects/${objectPath(layerFile)}`],
  ],
  [
    "an object is a link",
    () => inPlace(layerFile, (file) => symlinkSync("/dev/null", file)),
    () => [
      `object-open-failed objects/${objectPath(layerFile)}`,
      "missing-object-ref streams/layer",
    ],
  ],
  [
    "an object is a directory",
    () => inPlace(imageFile, (file) => mkdirSync(file)),
    () => [
      `unexpected-file-type objects/${objectPath(imageFile)}`,
      `image-missing-object images/${image}`,
    ],
  ],
  [
    "a stream's object is missing",
    () => unlinkSync(objectFile(layerFile)),
    () => ["missing-object-ref streams/layer"],
  ],
  [
    "a stream is missing",
    () => unlinkSync(objectFile(layer)),
    () => ["broken-symlink streams/layer", "missing-named-ref streams/manifest"],
  ],
  [
    "a stream is changed",
    () => appendFileSync(objectFile(manifest), "x"),
    () => [
      `object-digest-mismatch objects/${objectPath(manifest)}`,
      "stream-open-failed streams/manifest",
    ],
  ],
  [
    "a stream is not a stream",
    () => link("streams/layer", `../objects/${objectPath(layerFile)}`),
    () => ["stream-read-failed streams/layer"],
  ],
  [
    "a stream is a directory",
    () => inPlace(manifest, (file) => mkdirSync(file)),
    () => [
      `unexpected-file-type objects/${objectPath(manifest)}`,
      "unexpected-file-type streams/manifest",
    ],
  ],
  [
    "a stream is a file",
    () => writeFileSync(join(path, "streams/extra"), ""),
    () => ["entry-not-symlink streams/extra"],
  ],
  [
    "a stream has a name that is not UTF-8",
    () => symlinkSync("../elsewhere", Buffer.from(`${path}/streams/\xff`, "latin1")),
    () => ["broken-symlink streams/\ufffd"],
  ],
  [
    "an image is a pipe",
    () => execFileSync("mkfifo", [join(path, "images/pipe")]),
    () => ["entry-not-symlink images/pipe"],
  ],
  [
    "an image points out of the repository",
    () => link(`images/${OTHER}`, `../../objects/${objectPath(OTHER)}`),
    () => [`broken-symlink images/${OTHER}`],
  ],
  [
    "a reference has a name that is not UTF-8",
    () => symlinkSync("../manifest", Buffer.from(`${path}/streams/refs/\xff`, "latin1")),
    () => ["stat-failed streams/refs/\ufffd"],
  ],
  [
    "a stream points elsewhere",
    () => link("streams/extra", "/etc/passwd"),
    () => ["broken-symlink streams/extra"],
  ],
  [
    "an image is changed",
    () => appendFileSync(objectFile(image), "x"),
    () => [
      `object-digest-mismatch objects/${objectPath(image)}`,
      `image-open-failed images/${image}`,
    ],
  ],
  [
    "an image is another one",
    () => link(`images/${OTHER}`, `../objects/${objectPath(image)}`),
    () => [`image-invalid images/${OTHER}`],
  ],
  [
    "an image is not an image",
    () => link(`images/${layerFile}`, `../objects/${objectPath(layerFile)}`),
    () => [`image-invalid images/${layerFile}`],
  ],
  [
    "an image's file is missing",
    () => unlinkSync(objectFile(imageFile)),
    () => [`image-missing-object images/${image}`],
  ],
  [
    "a reference leads nowhere",
    () => link("streams/refs/oci/other", "../../nothing"),
    () => ["broken-symlink streams/refs/oci/other"],
  ],
  [
    "a reference has the wrong depth",
    () => link("images/refs/deep/er/name", `../${image}`),
    () => ["broken-symlink images/refs/deep/er/name"],
  ],
  [
    "a reference is a file",
    () => writeFileSync(join(path, "images/refs/file"), ""),
    () => ["entry-not-symlink images/refs/file"],
  ],
  [
    "a category is a file",
    () => {
      rmSync(join(path, "images"), { recursive: true });
      writeFileSync(join(path, "images"), "");
    },
    () => ["unexpected-file-type images", "unexpected-file-type images/refs"],
  ],
];
test.each(DAMAGE)("%s", (_name, damage, expected) => {
  damage();
  expect(kinds().sort()).toEqual([...expected()].sort());
});

test("an image too large to be read", () => {
  truncateSync(objectFile(image), 2 ** 30 + 1);
  expect(kinds(true)).toEqual([`image-read-failed images/${image}`]);
});

test("a path that cannot be followed", () => {
  loop(layer);
  expect(kinds(true)).toContain("stat-failed streams/layer");
  expect(kinds(true)).toContain("object-check-failed streams/manifest");
});

test("objects without the fs-verity a secure repository requires", () => {
  // meta.json cannot have fs-verity on every machine that runs this, so the object says it has.
  const secure: Repository = Object.create(repo, { secure: { value: true } });
  const { findings } = checkRepository(secure, { metadataOnly: false });
  const objects = findings.filter(({ path: where }) => where.startsWith("objects/"));
  expect(objects).toHaveLength(6);
  // The second where the file system or the kernel has no fs-verity at all.
  for (const { kind } of objects) {
    expect(["object-verity-missing", "object-verity-failed"]).toContain(kind);
  }
});

test("a repository that cannot be opened for its meta.json", () => {
  writeFileSync(meta(), "{");
  let caught: unknown;
  try {
    openRepository(null, path)[Symbol.dispose]();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(FormatError);
  expect(metadataFinding(caught as FormatError)).toMatchObject({ kind: "metadata-parse-failed" });
});
