// What test/integration/reflink.test.ts looks at, in a process with mounts of its own. The directory holds
// an image of an empty btrfs.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import { ensureObjectFromFile } from "../../shared/store/objects.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { type CopiedFile, copyFileContents } from "../../shared/sys/copy.ts";
import { openat, syncfs } from "../../shared/sys/file.ts";
import { unshareMounts } from "../../shared/sys/mount.ts";
import { openContainersStorage } from "../../updater/image/containers-storage.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { rebuildTar } from "./repository-listing.ts";
import { writeStorage } from "./storage-builder.ts";
import { TAR_END, tarMember } from "./tar-builder.ts";

const directory = process.argv[2]!;
const mounted = join(directory, "m");
const at = (name: string) => join(mounted, name);
const CONTENT = Buffer.from(Array.from({ length: 3_000_001 }, (_, i) => (i * 7919) >> 5));

unshareMounts();
mkdirSync(mounted);
execFileSync("mount", ["-t", "btrfs", "-o", "loop", join(directory, "btrfs.img"), mounted]);

/** Bytes in use when everything is written. */
function used(): number {
  using fd = openat(null, mounted, O.RDONLY | O.DIRECTORY);
  syncfs(fd);
  const { blocks, bfree, bsize } = statfsSync(mounted);
  return (blocks - bfree) * bsize;
}

/** Data of the size of a file, as opposed to the few blocks a name takes. */
const inFiles = (bytes: number) => Math.round(bytes / CONTENT.length);

function copy(from: string, to: string): CopiedFile {
  using input = openat(null, from, O.RDONLY);
  using output = openat(null, to, O.RDWR | O.CREAT | O.EXCL, 0o644);
  return copyFileContents(input, output);
}

writeFileSync(at("a"), CONTENT);
const before = used();
const first = copy(at("a"), at("b"));
const again = copy(at("a"), at("c"));
const usedForCopies = inFiles(used() - before);
const between = [copy(at("a"), join(directory, "far1")), copy(at("a"), join(directory, "far2"))];
const same = ["m/b", "m/c", "far1", "far2"].every((name) =>
  readFileSync(join(directory, name)).equals(CONTENT),
);

using repo = ensureRepository(null, at("repo"), { algorithm: "sha512", secure: false });
const beforeObject = used();
using input = openat(null, at("a"), O.RDONLY);
const stored = ensureObjectFromFile(repo, input);
const object = {
  isNamedRight: stored.digest === computeVerityDigest(CONTENT, "sha512"),
  usedBytes: inFiles(used() - beforeObject),
  again: ensureObjectFromFile(repo, input).digest === stored.digest,
};
readFileSync(at(`repo/objects/${objectPath(stored.digest)}`));

// A layer of containers-storage on the same file system, read in place.
const other = Buffer.from(CONTENT).reverse();
const tar = Buffer.concat([tarMember({ name: "big", content: other }), TAR_END]);
const { graphRoot, layers } = writeStorage(at("store"), "example.com/os:v1", [tar]);
const beforePull = used();
const source = openContainersStorage(`[${graphRoot}]example.com/os:v1`, "amd64");
await pullImage(repo, source);
const pull = {
  usedBytes: inFiles(used() - beforePull),
  isWhole: (await rebuildTar(repo, layers[0]!.diffId)).equals(tar),
};
const ways = [first, again].map(({ isReflink }) => (isReflink ? "shared" : "copied"));
writeSync(1, JSON.stringify({ first, same, usedForCopies, ways, between, object, pull }));
