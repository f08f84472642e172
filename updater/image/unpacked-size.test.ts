import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { fetchUnpackedSize, guessUnpackedSize } from "./unpacked-size.ts";

const GIB = 2 ** 30;

test.each<[string, number, number, number | null]>([
  ["small", 1000, 3000, 3000],
  ["larger than 4 GiB", 2 * GIB, 1 * GIB, 5 * GIB],
  ["larger than 8 GiB", 7 * GIB, 3 * GIB, 7 * GIB],
  ["much larger than 8 GiB", 9 * GIB, 1 * GIB, 9 * GIB],
  ["does not compress", 10_000, 9990, 9990],
  ["more than gzip can", 1000, 2_000_000, null],
  ["nothing for so much", 1_000_000, 5, null],
])("%s", (_, compressedBytes, remainder, sizeBytes) => {
  expect(guessUnpackedSize(compressedBytes, remainder)).toBe(sizeBytes);
});

async function fetch(blob: Buffer, mediaType: string): Promise<number | null> {
  const layer = { mediaType, digest: `sha256:${"0".repeat(64)}`, size: blob.length };
  return await fetchUnpackedSize(layer, async function* ({ startByte, endByte }) {
    for (let at = startByte; at < endByte; at++) yield blob.subarray(at, at + 1);
  });
}

test("of a real layer", async () => {
  const blob = gzipSync(Buffer.alloc(100_000, "tar"));
  expect(await fetch(blob, "application/vnd.oci.image.layer.v1.tar+gzip")).toBe(100_000);
  expect(await fetch(blob, "application/vnd.docker.image.rootfs.diff.tar.gzip")).toBe(100_000);
  expect(await fetch(blob, "application/vnd.oci.image.layer.v1.tar+zstd")).toBeNull();
  expect(await fetch(blob, "application/vnd.oci.image.layer.v1.tar")).toBeNull();
  expect(await fetch(blob.subarray(0, 10), "x+gzip")).toBeNull();
});
