import { expect, test } from "vitest";
import { parseDockerReference } from "./docker-reference.ts";
import type { SignedIdentity } from "./requirement.ts";
import { matchesIdentity } from "./signed-identity.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const exact = (dockerReference: string): SignedIdentity => ({
  type: "exactReference",
  dockerReference,
});
const repository = (dockerRepository: string): SignedIdentity => ({
  type: "exactRepository",
  dockerRepository,
});
const remap = (prefix: string, signedPrefix: string): SignedIdentity => ({
  type: "remapIdentity",
  prefix,
  signedPrefix,
});
const EXACT: SignedIdentity = { type: "matchExact" };
const DEFAULT: SignedIdentity = { type: "matchRepoDigestOrExact" };
const REPOSITORY: SignedIdentity = { type: "matchRepository" };

test.each<[SignedIdentity, string | null, string, boolean]>([
  [EXACT, "q.io/a:1", "q.io/a:1", true],
  [EXACT, "q.io/a:1", "q.io/a:2", false],
  [EXACT, "q.io/a:1", "q.io/a", false],
  [EXACT, `q.io/a@${DIGEST}`, "q.io/a:1", false],
  [EXACT, `q.io/a@${DIGEST}`, `q.io/a@${DIGEST}`, true],
  [EXACT, null, "q.io/a:1", false],
  [EXACT, "busybox:1", "docker.io/library/busybox:1", true],
  [DEFAULT, "q.io/a:1", "q.io/a:1", true],
  [DEFAULT, "q.io/a:1", "q.io/a:2", false],
  [DEFAULT, "q.io/a:1", "q.io/b:1", false],
  [DEFAULT, "q.io/a:1", "q.io/a", false],
  [DEFAULT, `q.io/a@${DIGEST}`, "q.io/a:7", true],
  [DEFAULT, `q.io/a@${DIGEST}`, "q.io/a", false],
  [DEFAULT, `q.io/a@${DIGEST}`, "q.io/b:7", false],
  [DEFAULT, null, "q.io/a:1", false],
  [REPOSITORY, "q.io/a:1", "q.io/a", true],
  [REPOSITORY, "q.io/a:1", "q.io/a:2", true],
  [REPOSITORY, "q.io/a:1", "q.io/a/b:1", false],
  [REPOSITORY, "q.io:443/a:1", "q.io/a:1", false],
  [REPOSITORY, null, "q.io/a", false],
  [exact("q.io/a:1"), "mirror/x/y:9", "q.io/a:1", true],
  [exact("q.io/a:1"), null, "q.io/a:1", true],
  [exact("q.io/a:1"), "q.io/a:1", "q.io/a:2", false],
  [repository("q.io/a"), null, "q.io/a:5", true],
  [repository("q.io/a"), null, "q.io/a", true],
  [repository("q.io/a"), "q.io/b:1", "q.io/b:1", false],
  [remap("m:5000/v", "q.io"), "m:5000/v/a:1", "q.io/a:1", true],
  [remap("m:5000/v", "q.io"), "m:5000/v/a:1", "m:5000/v/a:1", false],
  [remap("m:5000/v", "q.io"), "m:5000/vx/a:1", "q.io/a:1", false],
  [remap("m:5000/v", "q.io"), "m:5000/vx/a:1", "m:5000/vx/a:1", true],
  [remap("m:5000/v", "q.io/w"), `m:5000/v/a@${DIGEST}`, "q.io/w/a:1", true],
  [remap("m", "q.io"), "m:5000/a:1", "q.io/a:1", false],
  [remap("m", "q.io"), null, "q.io/a:1", false],
  [REPOSITORY, "q.io/a:1", "not a reference", false],
  [REPOSITORY, "q.io/a:1", "q.io/a:1@sha256:zz", false],
  [REPOSITORY, "q.io/a:1", "", false],
])("%j for %s signed as %s: %s", (identity, image, signed, expected) => {
  const parsed = image === null ? null : parseDockerReference(image);
  if (image !== null) expect(parsed).not.toBeNull();
  expect(matchesIdentity(identity, parsed, signed)).toBe(expected);
});
