import fc from "fast-check";
import { expect, test } from "vitest";
import { computeVerityDigest, objectPath, VerityHasher } from "./digest.ts";

// From the kernel's own rule for empty files and fsverity-utils; more in test/vectors/composefs.
test.each([
  ["", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"],
  ["hello world", "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"],
  ["foo bar baz\n", "91e7d88cb7bc9cf6d8db3b0ecf89af4abf204bef5b3ade5113d5b62ef374e70b"],
])("SHA-256 of %j", (content, digest) => {
  expect(computeVerityDigest(Buffer.from(content), "sha256")).toBe(digest);
});

test("any chunking gives the same digest", () => {
  const content = new Uint8Array(600_000).map((_, i) => (i * 7 + (i >> 9)) & 255);
  const whole = computeVerityDigest(content, "sha256");
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 12 }), (sizes) => {
      const hasher = new VerityHasher("sha256");
      let at = 0;
      for (const size of sizes) {
        hasher.update(content.subarray(at, at + size));
        at = Math.min(content.length, at + size);
      }
      expect(hasher.update(content.subarray(at)).digestHex()).toBe(whole);
    }),
    { numRuns: 50 },
  );
});

test("objects lie in directories of two digits", () => {
  expect(objectPath("abcdef")).toBe("ab/cdef");
});
