// Tags as names of files: what is escaped comes back, what others wrote is taken as it is.

import { mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { storeObject } from "../../shared/store/objects.ts";
import { setRef } from "../../shared/store/refs.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import { tagRefName } from "../image/boot-image.ts";
import { listTaggedManifests, removeTag } from "./image-tag.ts";

let scratch: string;
let repo: Repository;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "image-tag-"));
  const config = { algorithm: "sha512", secure: false } as const;
  repo = ensureRepository(null, join(scratch, "repo"), config);
  publishStream(repo, "oci-manifest-sha256:1", storeObject(repo, Buffer.from("{}")));
});
afterEach(() => {
  repo[Symbol.dispose]();
  rmSync(scratch, { recursive: true });
});

const directory = () => join(repo.path, "streams/refs/oci");
const tags = () => listTaggedManifests(repo).map(({ tag }) => tag);

test.each([
  ["plain", "plain"],
  ["quay.io/x/y:1", "quay.io%2Fx%2Fy:1"],
  ["100%", "100%25"],
  ["a%2Fb", "a%252Fb"],
  ["%25", "%2525"],
  ["oci:/media/käse:1", "oci:%2Fmedia%2Fkäse:1"],
])("%j is stored as %j", (tag, file) => {
  setRef(repo, "streams", tagRefName(tag), "oci-manifest-sha256:1");
  expect(readdirSync(directory())).toEqual([file]);
  expect(listTaggedManifests(repo)).toEqual([{ tag, manifestDigest: "sha256:1" }]);
  removeTag(repo, tag);
  expect(tags()).toEqual([]);
});

test("other escapes are no escapes", () => {
  setRef(repo, "streams", tagRefName("first"), "oci-manifest-sha256:1");
  symlinkSync("../../oci-manifest-sha256:1", join(directory(), "x%41%2f%"));
  expect(tags()).toEqual(["first", "x%41%2f%"]);
});

test("references in other directories are no tags", () => {
  setRef(repo, "streams", "oci-referrers/sha256:1/sha256:2", "oci-manifest-sha256:1");
  setRef(repo, "streams", "ostree/debian", "oci-manifest-sha256:1");
  expect(tags()).toEqual([]);
});
