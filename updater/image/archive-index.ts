// The index of a tar archive: where the content of each member lies, and what its links lead to. Only
// headers are read. Names are normalized and only ever compared: nothing is opened by them.

import { FormatError } from "../../shared/error.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { BLOCK_SIZE_BYTES } from "../../shared/format/tar/header.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { fstat } from "../../shared/sys/stat.ts";
import { readAt } from "./read-at.ts";

const WINDOW_BYTES = 1 << 16;
/** More than any archive of images has; bounds the memory of the index. */
const MAX_MEMBERS = 1 << 17;

/** Where the content of a regular file lies. */
export interface ArchiveMember {
  /** As in the archive, for messages. */
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** What a name in the archive stands for. */
export type ArchiveEntry =
  | { readonly kind: "file"; readonly member: ArchiveMember }
  /** Names without "." and leading "/". */
  | { readonly kind: "link"; readonly target: string }
  | { readonly kind: "directory" }
  | { readonly kind: "other" }
  | { readonly kind: "twice" };

/** FormatError when `fd` is not a whole tar. */
export async function readArchiveIndex(fd: Fd): Promise<ReadonlyMap<string, ArchiveEntry>> {
  const fileBytes = fstat(fd).sizeBytes;
  const entries = new Map<string, ArchiveEntry>();
  let found: TarEntry | null = null;
  const entry = (next: TarEntry) => {
    found = next;
  };
  const reader = new TarReader({ raw() {}, entry, content() {}, contentEnd() {} });
  const window = new Window(fd);
  for (let offset = 0; offset < fileBytes; ) {
    found = null;
    const block = await window.read(offset, BLOCK_SIZE_BYTES);
    reader.write(block);
    offset += block.length;
    const member = found as TarEntry | null;
    if (member === null) continue;
    addEntry(entries, member, offset);
    if (member.sizeBytes === 0) continue;
    reader.skipContent();
    offset += member.sizeBytes;
    const padding = await window.read(offset, -member.sizeBytes & (BLOCK_SIZE_BYTES - 1));
    if (offset > fileBytes) throw new FormatError("truncated", "it ends inside a file");
    reader.write(padding);
    offset += padding.length;
  }
  reader.finish();
  return entries;
}

/** A piece of the file that stays in memory while blocks of it are read. */
class Window {
  readonly #fd: Fd;
  readonly #buffer = Buffer.allocUnsafe(WINDOW_BYTES);
  #start = 0;
  #length = 0;

  constructor(fd: Fd) {
    this.#fd = fd;
  }

  /** Fewer bytes only at the end of the file. Valid until the next call. */
  async read(offset: number, sizeBytes: number): Promise<Uint8Array> {
    if (offset < this.#start || offset + sizeBytes > this.#start + this.#length) {
      this.#start = offset;
      this.#length = await readAt(this.#fd, this.#buffer, offset);
    }
    const at = offset - this.#start;
    return this.#buffer.subarray(at, Math.min(at + sizeBytes, this.#length));
  }
}

function addEntry(entries: Map<string, ArchiveEntry>, entry: TarEntry, offset: number): void {
  const name = normalizeMember(entry.path, "");
  if (name === null || name === "") return; // nothing inside the archive can mean it
  if (entries.size >= MAX_MEMBERS) {
    throw new FormatError("limit", `it has more than ${MAX_MEMBERS} members`);
  }
  const isNew = !entries.has(name) || entry.type === "directory";
  entries.set(name, isNew ? makeEntry(entry, name, offset) : { kind: "twice" });
}

function makeEntry(entry: TarEntry, name: string, offset: number): ArchiveEntry {
  const { type, path, linkTarget, sizeBytes } = entry;
  switch (type) {
    case "file":
      return { kind: "file", member: { name: fromByteString(path), offset, sizeBytes } };
    case "directory":
      return { kind: "directory" };
    case "symlink":
      return { kind: "link", target: normalizeMember(linkTarget, parentOf(name)) ?? "" };
    case "hardlink":
      return { kind: "link", target: normalizeMember(linkTarget, "") ?? "" };
    default:
      return { kind: "other" };
  }
}

/** Names joined by "/", without "." and ".."; null when it leads above the archive. */
export function normalizeMember(path: string, parent: string): string | null {
  const names: string[] = [];
  for (const name of `${path.startsWith("/") ? "" : parent}/${path}`.split("/")) {
    if (name === "" || name === ".") continue;
    if (name !== "..") names.push(name);
    else if (names.pop() === undefined) return null;
  }
  return names.join("/");
}

function parentOf(name: string): string {
  return name.slice(0, Math.max(name.lastIndexOf("/"), 0));
}
