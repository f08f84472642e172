// Fuzz target: ostree's commits and what goes with them: detached metadata with signatures, the summary, the record of a
// staged deployment. A commit that is accepted is written again byte for byte.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { encodeCommit, parseCommit } from "../../../shared/format/ostree/commit.ts";
import { parseStagedDeployment } from "../../../shared/format/ostree/record.ts";
import { readSignatures, verifySignatures } from "../../../shared/format/ostree/signature.ts";
import { parseSummary } from "../../../shared/format/ostree/summary.ts";
import { commitToJson, describeCommit } from "../../../updater/ostree/commit-text.ts";
import { attempt, checkSameBytes, type FuzzTarget, PropertyError } from "../target.ts";

const KEY = Buffer.alloc(32, 1);

export const target: FuzzTarget = {
  focus: /^shared\/format\/ostree\/(commit|summary|record)\.ts|^updater\/ostree\/commit-text\.ts/,
  maxBytes: 2048,
  words: ["a{sv}", "ostree.sign.ed25519", "aay", "version", "ay", "as", "\0", "target", "osname"],
  *seeds(root) {
    const vectors = join(root, "test/vectors/ostree");
    for (const name of readdirSync(join(vectors, "objects"))) {
      if (/\.commit(meta)?$/.test(name)) yield readFileSync(join(vectors, "objects", name));
    }
    yield readFileSync(join(vectors, "summary.bin"));
    yield readFileSync(join(vectors, "staged/staged-deployment-locked.bin"));
  },
  check(input) {
    const signatures = attempt(() => readSignatures(input));
    if ("value" in signatures && signatures.value !== null) {
      const isSigned = verifySignatures(input, signatures.value, [KEY]);
      if (isSigned) throw new PropertyError("Signed by a key that signed nothing");
    }
    const others = [
      attempt(() => parseSummary(input)),
      attempt(() => parseStagedDeployment(input)),
    ];
    const isOther = [signatures, ...others].some((result) => "value" in result);
    const commit = attempt(() => parseCommit(input));
    if ("error" in commit) return isOther;
    const checksum = "0".repeat(64);
    describeCommit(checksum, commit.value, commit.value.metadata);
    const text = JSON.stringify(commitToJson(checksum, commit.value, commit.value.metadata));
    // JavaScript has one NaN, the format has many.
    if (!text.includes("nan")) checkSameBytes(encodeCommit(commit.value), input, "Written again");
    return true;
  },
};
