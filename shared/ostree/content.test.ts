// Archived files that do not hold what they say, small ones (inflated at once) and large ones (piece by piece).

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { createArchive, encodeArchived, writeLoose } from "../../test/support/ostree-archive.ts";
import {
  archiveHeaderBytes,
  makeFileHeader,
  startContentChecksum,
} from "../format/ostree/file-header.ts";
import { checkContent, openContent } from "./content.ts";
import { openOstreeRepository } from "./repository.ts";

const scratch = mkdtempSync(join(tmpdir(), "ostree-content-"));
afterAll(() => rmSync(scratch, { recursive: true }));
const path = join(scratch, "repo");
createArchive(path);

const header = makeFileHeader({ mode: 0o100644, uid: 0, gid: 0, xattrs: new Map() }, "");

/** Stores `spoil` of a good object of `sizeBytes` under the good one's name. */
function store(sizeBytes: number, spoil: (bytes: Buffer) => Uint8Array): string {
  const content = new Uint8Array(sizeBytes).map((_, i) => (i * i) >> 7);
  const checksum = startContentChecksum(header).update(content).digest("hex");
  return writeLoose(path, checksum, "filez", spoil(Buffer.from(encodeArchived(header, content))));
}

/** The size is in bytes 8 to 15. */
function sayMore(bytes: Buffer, more: number): Buffer {
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(8) + BigInt(more), 8);
  return bytes;
}

test.each<[string, (bytes: Buffer) => Uint8Array, string | null]>([
  ["nothing wrong", (bytes) => bytes, null],
  ["cut off", (bytes) => bytes.subarray(0, -5), "is not valid deflate data"],
  [
    "no content",
    (bytes) => bytes.subarray(0, archiveHeaderBytes(bytes)),
    "is not valid deflate data",
  ],
  [
    "no deflate",
    (bytes) => bytes.fill(0xff, archiveHeaderBytes(bytes)),
    "is not valid deflate data",
  ],
  ["one byte more than it says", (bytes) => sayMore(bytes, -1), "does not have the"],
  ["one byte less than it says", (bytes) => sayMore(bytes, 1), "does not have the"],
])("%s", async (_name, spoil, problem) => {
  using repo = openOstreeRepository(path);
  for (const sizeBytes of [1000, 100_000, 5_000_000]) {
    const checksum = store(sizeBytes, spoil);
    const checking = checkContent(repo, checksum);
    if (problem === null) expect(await checking).toEqual(header);
    else await expect(checking, String(sizeBytes)).rejects.toThrow(problem);
  }
});

test("bytes behind the deflate data do not count, and do not stop the reader", async () => {
  using repo = openOstreeRepository(path);
  for (const sizeBytes of [1000, 5_000_000]) {
    const checksum = store(sizeBytes, (bytes) =>
      Buffer.concat([bytes, Buffer.alloc(3_000_000, 7)]),
    );
    expect(await checkContent(repo, checksum)).toEqual(header);
  }
});

test("a reader that stops early leaves nothing open", async () => {
  using repo = openOstreeRepository(path);
  const checksum = store(5_000_000, (bytes) => bytes);
  for (let i = 0; i < 20; i++) {
    using content = openContent(repo, checksum);
    for await (const chunk of content.chunks()) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
  }
});
