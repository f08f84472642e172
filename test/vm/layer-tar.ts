// Writes a directory, or the upper directory of an overlay, as an OCI layer: tar, zstd, digests.
// Invariants: entries are sorted by path, so equal trees give equal tars; overlayfs whiteouts
// become `.wh.` entries; hard links, owners, modes, times (whole seconds) and xattrs are kept.
// tar-stream writes PAX values as text: a value that is no UTF-8 text goes in through a header of
// our own.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, type Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { pack as createPack, type Header, type Pack } from "tar-stream";
import { binaryPax, isText, readXattrs, type Xattrs } from "./layer-xattrs.ts";

type TarHeader = Partial<Header> & Pick<Header, "name">;

export type LayerFile = {
  readonly digest: string;
  readonly size: number;
  readonly diffId: string;
  readonly tarSize: number;
};

/** Packs `dir` into `file` and says what an OCI manifest must know about it. */
export async function writeLayer(dir: string, file: string): Promise<LayerFile> {
  const pack = createPack();
  const plain = hashing();
  const compressed = hashing();
  const compress = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  const written = pipeline(
    pack as unknown as NodeJS.ReadableStream,
    plain.stream,
    compress,
    compressed.stream,
    createWriteStream(file),
  );
  const fed = packTree(pack, dir).catch((error) => {
    pack.destroy(error);
    throw error;
  });
  await Promise.all([fed, written]);
  return {
    digest: compressed.digest(),
    size: compressed.size(),
    diffId: plain.digest(),
    tarSize: plain.size(),
  };
}

function hashing(): { stream: Transform; digest(): string; size(): number } {
  const hash = createHash("sha256");
  let size = 0;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  return { stream, digest: () => `sha256:${hash.digest("hex")}`, size: () => size };
}

async function packTree(pack: Pack, dir: string): Promise<void> {
  await packDir(pack, dir, "", new Map());
  pack.finalize();
}

async function packDir(
  pack: Pack,
  dir: string,
  prefix: string,
  firstNames: Map<number, string>,
): Promise<void> {
  for (const base of (await readdir(join(dir, prefix))).sort()) {
    const name = prefix === "" ? base : `${prefix}/${base}`;
    const path = join(dir, name);
    const stat = await lstat(path);
    if (stat.isCharacterDevice() && stat.rdev === 0) {
      await packEntry(pack, whiteout(join(prefix, `.wh.${base}`)));
      continue;
    }
    if (stat.isSocket()) continue;
    const attributes = readXattrs(path);
    const header = await describe(path, name, stat, firstNames);
    withXattrs(pack, header, attributes);
    await packEntry(pack, header, header.type === "file" ? path : undefined);
    if (!stat.isDirectory()) continue;
    if (attributes.get("trusted.overlay.opaque")?.toString() === "y") {
      await packEntry(pack, whiteout(`${name}/.wh..wh..opq`));
    }
    await packDir(pack, dir, name, firstNames);
  }
}

function whiteout(name: string): TarHeader {
  return { name, type: "file", size: 0, mode: 0o644, mtime: new Date(0) };
}

async function describe(
  path: string,
  name: string,
  stat: Stats,
  firstNames: Map<number, string>,
): Promise<TarHeader> {
  const { uid, gid } = stat;
  const mtime = new Date(Math.floor(stat.mtimeMs / 1000) * 1000);
  const header: TarHeader = { name, mode: stat.mode & 0o7777, uid, gid, mtime, size: 0 };
  if (stat.isDirectory()) return { ...header, name: `${name}/`, type: "directory" };
  if (stat.isSymbolicLink()) return { ...header, type: "symlink", linkname: await readlink(path) };
  const first = firstNames.get(stat.ino);
  if (first !== undefined) return { ...header, type: "link", linkname: first };
  if (stat.nlink > 1) firstNames.set(stat.ino, name);
  if (stat.isFile()) return { ...header, type: "file", size: stat.size };
  if (stat.isFIFO()) return { ...header, type: "fifo" };
  return {
    ...header,
    type: stat.isBlockDevice() ? "block-device" : "character-device",
    devmajor: (stat.rdev >> 8) & 0xfff,
    devminor: (stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00),
  };
}

/** Puts the attributes where tar-stream keeps them true; the others just before the entry. */
function withXattrs(pack: Pack, header: TarHeader, attributes: Xattrs): void {
  const wanted = [...attributes].filter(([key]) => !key.startsWith("trusted.overlay."));
  if (wanted.length === 0 || header.type === "link") return;
  if (wanted.every(([, value]) => isText(value))) {
    const records = wanted.map(([key, value]) => [`SCHILY.xattr.${key}`, value.toString()]);
    header.pax = Object.fromEntries(records);
    return;
  }
  const linkname = header.type === "symlink" ? header.linkname : undefined;
  // tar-stream's own PAX header would come between ours and the entry: it must not need one.
  if (!/^[\x20-\x7e]{1,99}$/.test(header.name) || (linkname?.length ?? 0) > 99) {
    throw new Error(`Cannot pack ${header.name}: binary xattrs on an entry with a long name`);
  }
  (pack as unknown as { push(chunk: Buffer): void }).push(binaryPax(wanted));
}

function packEntry(pack: Pack, header: TarHeader, contents?: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const entry = pack.entry(header, (error) => (error ? reject(error) : resolve()));
  if (contents === undefined) entry.end(null);
  else {
    const source = createReadStream(contents, { highWaterMark: 1 << 20 });
    pipeline(source, entry as unknown as NodeJS.WritableStream).catch(reject);
  }
  return promise;
}
