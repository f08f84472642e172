import { describe, expect, test } from "vitest";
import { digestOfHashes, hashBlocks } from "./blocks.ts";
import { computeVerityDigest, VerityHasher, verityHashBytes } from "./digest.ts";

const MIB = 1 << 20;
/** Content that one block of hashes covers. */
const UNIT_BYTES = { sha256: 128 * 4096, sha512: 64 * 4096 } as const;
const content = new Uint8Array(5 * MIB).map((_, i) => (i * 7 + (i >> 9)) & 255);

/** Hashes of the blocks of `data`, with room for whole blocks of them. */
function hashesOf(algorithm: "sha256" | "sha512", data: Uint8Array) {
  const blocks = Math.ceil(data.length / 4096);
  const padded = new Uint8Array(blocks * 4096);
  padded.set(data);
  const hashes = new Uint8Array(Math.ceil((blocks * verityHashBytes(algorithm)) / 4096) * 4096);
  return { hashes, usedBytes: hashBlocks(algorithm, padded, data.length, hashes) };
}

describe.each(["sha256", "sha512"] as const)("%s", (algorithm) => {
  const unit = UNIT_BYTES[algorithm];

  test.each([1, 4095, 4096, 4097, 8192, unit - 1, unit, unit + 1, 2 * unit, 3 * unit + 5000])(
    "the levels of %i bytes come to the digest",
    (sizeBytes) => {
      const data = content.subarray(0, sizeBytes);
      const { hashes, usedBytes } = hashesOf(algorithm, data);
      const digest = digestOfHashes(algorithm, hashes, usedBytes, sizeBytes);
      expect(Buffer.from(digest).toString("hex")).toBe(computeVerityDigest(data, algorithm));
    },
  );

  test.each([MIB + 1, 2 * MIB, 2 * MIB + 4096, 3 * MIB + 77, 5 * MIB])(
    "ranges of %i bytes come to the digest",
    (sizeBytes) => {
      const hasher = new VerityHasher(algorithm);
      for (let start = 0; start < sizeBytes; start += MIB) {
        const range = content.subarray(start, Math.min(sizeBytes, start + MIB));
        const { hashes, usedBytes } = hashesOf(algorithm, range);
        const upper = hashBlocks(algorithm, hashes, usedBytes, hashes);
        hasher.addRange(range.length, hashes.subarray(0, upper));
      }
      const whole = computeVerityDigest(content.subarray(0, sizeBytes), algorithm);
      expect(hasher.digestHex()).toBe(whole);
    },
  );
});

test("a large tree of three levels", () => {
  // 130 blocks of hashes: one block of their hashes is not enough.
  const zeros = new Uint8Array(130 * UNIT_BYTES.sha256);
  const { hashes, usedBytes } = hashesOf("sha256", zeros.subarray(0, UNIT_BYTES.sha256));
  const upper = hashBlocks("sha256", hashes, usedBytes, hashes);
  const hasher = new VerityHasher("sha256");
  for (let range = 0; range < 130; range++) {
    hasher.addRange(UNIT_BYTES.sha256, hashes.slice(0, upper));
  }
  expect(hasher.digestHex()).toBe(computeVerityDigest(zeros, "sha256"));
});
