// A directory as the model of the disk sees it: inodes by number, names that lead to them. Read from real
// files and written back as real files. For small trees on tmpfs, whose inode numbers are not used twice.

import { createHash } from "node:crypto";
import {
  chmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

export type Inode =
  | { readonly kind: "directory"; readonly mode: number }
  | { readonly kind: "file"; readonly mode: number; readonly content: string }
  | { readonly kind: "symlink"; readonly target: string };

/** Names of each directory, and every inode. */
export interface Tree {
  readonly root: number;
  readonly names: ReadonlyMap<number, ReadonlyMap<string, number>>;
  readonly inodes: ReadonlyMap<number, Inode>;
}

/** Contents by their digest, and what was read of a file when it looked like this. */
export class ContentStore {
  readonly #bytes = new Map<string, Buffer>();
  readonly #known = new Map<number, readonly [stamp: string, digest: string]>();

  add(bytes: Buffer): string {
    const digest = createHash("sha256").update(bytes).digest("hex");
    if (!this.#bytes.has(digest)) this.#bytes.set(digest, bytes);
    return digest;
  }

  get(digest: string): Buffer {
    return this.#bytes.get(digest)!;
  }

  /** The file at `path`; read again only when its times or size are others. */
  read(path: string, ino: number, stamp: string): string {
    const known = this.#known.get(ino);
    if (known?.[0] === stamp) return known[1];
    const digest = this.add(readFileSync(path));
    this.#known.set(ino, [stamp, digest]);
    return digest;
  }
}

const PERMISSIONS = 0o7777;

function readInode(path: string, store: ContentStore): readonly [number, Inode] {
  const stat = lstatSync(path, { bigint: true });
  const [ino, mode] = [Number(stat.ino), Number(stat.mode) & PERMISSIONS];
  if (stat.isDirectory()) return [ino, { kind: "directory", mode }];
  if (stat.isSymbolicLink()) return [ino, { kind: "symlink", target: readlinkSync(path) }];
  if (!stat.isFile()) throw new Error(`The model knows no files like "${path}"`);
  const stamp = `${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
  return [ino, { kind: "file", mode, content: store.read(path, ino, stamp) }];
}

/** The inode of an open file, which may have no name. */
export function readDescriptor(fd: number, store: ContentStore): readonly [number, Inode] {
  const stat = fstatSync(fd, { bigint: true });
  const [ino, mode] = [Number(stat.ino), Number(stat.mode) & PERMISSIONS];
  if (stat.isDirectory()) return [ino, { kind: "directory", mode }];
  return [ino, { kind: "file", mode, content: store.add(readFileSync(`/proc/self/fd/${fd}`)) }];
}

export function readTree(path: string, store: ContentStore): Tree {
  const names = new Map<number, Map<string, number>>();
  const inodes = new Map<number, Inode>();
  const visit = (at: string): number => {
    const [ino, inode] = readInode(at, store);
    inodes.set(ino, inode);
    if (inode.kind !== "directory") return ino;
    const entries = new Map<string, number>();
    for (const name of readdirSync(at)) entries.set(name, visit(join(at, name)));
    names.set(ino, entries);
    return ino;
  };
  return { root: visit(path), names, inodes };
}

/** Fills the existing directory `path`. */
export function writeTree(tree: Tree, path: string, store: ContentStore): void {
  const first = new Map<number, string>();
  const visit = (ino: number, at: string) => {
    for (const [name, child] of tree.names.get(ino) ?? []) {
      const target = join(at, name);
      const inode = tree.inodes.get(child)!;
      const earlier = first.get(child);
      if (earlier !== undefined && inode.kind !== "directory") {
        linkSync(earlier, target);
        continue;
      }
      first.set(child, target);
      writeInode(inode, target, store);
      if (inode.kind === "directory") {
        visit(child, target);
        chmodSync(target, inode.mode);
      }
    }
  };
  visit(tree.root, path);
}

const LONG_AGO = new Date(1_700_000_000_000);

function writeInode(inode: Inode, path: string, store: ContentStore): void {
  if (inode.kind === "directory") mkdirSync(path);
  else if (inode.kind === "symlink") symlinkSync(inode.target, path);
  else {
    writeFileSync(path, store.get(inode.content));
    chmodSync(path, inode.mode);
    utimesSync(path, LONG_AGO, LONG_AGO);
  }
}

/** One text for equal trees, whatever their inode numbers. */
export function fingerprintTree(tree: Tree): string {
  const hash = createHash("sha256");
  const visit = (ino: number, path: string) => {
    for (const [name, child] of [...(tree.names.get(ino) ?? [])].sort()) {
      const inode = tree.inodes.get(child)!;
      hash.update(`${path}/${name}\0${JSON.stringify(inode)}\n`);
      if (inode.kind === "directory") visit(child, `${path}/${name}`);
    }
  };
  visit(tree.root, "");
  return hash.digest("hex");
}
