// Fuzz target: ostree's trees: dirtree and dirmeta objects, the value of user.ostreemeta, and the header of archived files.
// What is accepted is written again byte for byte.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { encodeDirtree, parseDirtree } from "../../../shared/format/ostree/dirtree.ts";
import {
  archiveHeaderBytes,
  parseArchiveHeader,
  startContentChecksum,
} from "../../../shared/format/ostree/file-header.ts";
import {
  encodeOwnership,
  parseDirmeta,
  parseFileMetadata,
} from "../../../shared/format/ostree/metadata.ts";
import { encodeArchived } from "../../support/ostree-archive.ts";
import { attempt, checkSameBytes, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^shared\/format\/ostree\/(dirtree|metadata|file-header)\.ts/,
  maxBytes: 2048,
  words: [
    "a\0",
    "user.a\0",
    ".",
    "..",
    "/",
    "\xc3\xbc",
    "\0\0A\xed",
    "\0\0\x81\xa4",
    "\0\0\xa1\xff",
  ],
  *seeds(root) {
    const folder = join(root, "test/vectors/ostree/objects");
    for (const name of readdirSync(folder)) {
      if (/\.(dirtree|dirmeta|filez)$/.test(name)) yield readFileSync(join(folder, name));
    }
    const xattrs = new Map([["user.a", Buffer.from("one")]]);
    yield encodeOwnership({ mode: 0o120777, uid: 1, gid: 2, xattrs });
  },
  check(input) {
    const dirtree = attempt(() => parseDirtree(input));
    if ("value" in dirtree) checkSameBytes(encodeDirtree(dirtree.value), input, "Dirtree");
    const owners = [attempt(() => parseDirmeta(input)), attempt(() => parseFileMetadata(input))];
    for (const each of owners) {
      if ("value" in each) checkSameBytes(encodeOwnership(each.value), input, "Metadata");
    }
    const archived = attempt(() => parseArchiveHeader(input));
    if ("value" in archived) {
      const { header } = archived.value;
      startContentChecksum(header);
      const end = archiveHeaderBytes(input);
      const again = encodeArchived(header, new Uint8Array(archived.value.sizeBytes % 65_536));
      // The size is in bytes 8 to 15.
      if (archived.value.sizeBytes < 65_536) {
        checkSameBytes(again.subarray(0, end), input.subarray(0, end), "Header");
      }
    }
    return [dirtree, archived, ...owners].some((result) => "value" in result);
  },
};
