// Makes ostree repositories of mode archive from tar archives: no file in them has an owner, so this needs no
// root. The writing half of the product makes bare ones only.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { deflateRawSync, gunzipSync } from "node:zlib";
import { encodeGVariant } from "../../shared/format/gvariant/encode.ts";
import { swap32, swap64 } from "../../shared/format/ostree/byte-order.ts";
import { type Commit, encodeCommit } from "../../shared/format/ostree/commit.ts";
import { encodeDirtree } from "../../shared/format/ostree/dirtree.ts";
import {
  type FileHeader,
  makeFileHeader,
  startContentChecksum,
} from "../../shared/format/ostree/file-header.ts";
import { encodeOwnership, xattrsToVariant } from "../../shared/format/ostree/metadata.ts";
import {
  computeChecksum,
  type LooseType,
  loosePath,
  type MetadataType,
} from "../../shared/format/ostree/object.ts";
import { fromByteString, S_IFDIR, S_IFLNK, S_IFREG } from "../../shared/format/tree/node.ts";
import { createOstreeRepository } from "../../shared/ostree/repository.ts";
import { type ReadMember, readTar } from "./tar-listing.ts";

/** An empty repository of mode archive. */
export function createArchive(path: string): void {
  createOstreeRepository(path);
  const config = join(path, "config");
  writeFileSync(config, readFileSync(config, "utf8").replace("mode=bare", "mode=archive-z2"));
}

export function objectFile(repo: string, checksum: string, type: LooseType): string {
  return join(repo, "objects", loosePath(checksum, type));
}

export function writeLoose(
  repo: string,
  checksum: string,
  type: LooseType,
  bytes: Uint8Array,
): string {
  const path = objectFile(repo, checksum, type);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  return checksum;
}

export function writeMetadata(repo: string, type: MetadataType, bytes: Uint8Array): string {
  return writeLoose(repo, computeChecksum(bytes), type, bytes);
}

/** Commits the one directory in a compressed tar archive. */
export function commitTar(
  repo: string,
  archive: string,
  commit: Omit<Commit, "related" | "tree" | "meta">,
): string {
  const { members } = readTar(gunzipSync(readFileSync(archive)));
  const byPath = new Map(members.map((each) => [each.path.replace(/\/$/, ""), each]));
  const [top] = byPath.keys();
  const root = writeDirectory(repo, byPath, top!);
  return writeMetadata(repo, "commit", encodeCommit({ ...commit, related: [], ...root }));
}

function writeDirectory(
  repo: string,
  members: ReadonlyMap<string, ReadMember>,
  path: string,
): { readonly tree: string; readonly meta: string } {
  const files = [];
  const directories = [];
  for (const [each, member] of members) {
    if (!each.startsWith(`${path}/`) || each.slice(path.length + 1).includes("/")) continue;
    const name = each.slice(path.length + 1);
    if (member.type === "directory") {
      directories.push({ name, ...writeDirectory(repo, members, each) });
    } else files.push({ name, checksum: writeFile(repo, member) });
  }
  const own = members.get(path)!;
  const meta = encodeOwnership({ ...own, mode: own.mode | S_IFDIR });
  return {
    tree: writeMetadata(repo, "dirtree", encodeDirtree({ files, directories })),
    meta: writeMetadata(repo, "dirmeta", meta),
  };
}

function writeFile(repo: string, member: ReadMember): string {
  const isLink = member.type === "symlink";
  const mode = member.mode | (isLink ? S_IFLNK : S_IFREG);
  const header = makeFileHeader(
    { ...member, mode },
    isLink ? fromByteString(member.linkTarget!) : "",
  );
  const content = Buffer.from(member.content, "latin1");
  const checksum = startContentChecksum(header).update(content).digest("hex");
  return writeLoose(repo, checksum, "filez", encodeArchived(header, content));
}

/** A `.filez`. */
export function encodeArchived(header: FileHeader, content: Uint8Array): Uint8Array {
  const { uid, gid, mode, xattrs, target } = header;
  const bytes = encodeGVariant("(tuuuusa(ayay))", [
    swap64(BigInt(content.length)),
    ...[swap32(uid), swap32(gid), swap32(mode), 0],
    target === null ? "" : fromByteString(target),
    xattrsToVariant(xattrs),
  ]);
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32BE(bytes.length);
  return Buffer.concat([
    prefix,
    bytes,
    target === null ? deflateRawSync(content) : Buffer.alloc(0),
  ]);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
