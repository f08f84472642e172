// What a power cut leaves of a file system, by what the program asked to be written out.
//
// A change is one system call's: names that came, went or moved (together or not at all) and contents.
// It lasts when it was synced, by rules weaker than any kernel's:
//   plain  fsync of a file: its content; of a directory: its names; a name that moved between two
//          directories: both; syncfs: everything.
//   vfat   the same, but moved names (rename, exchange) last only after syncfs or fsync of what was moved,
//          and nothing lasts before the disk is told to flush, which fsync does and syncfs does not
//          (boot-counting-and-esp.md 4).
// What was not synced may be lost: all of it, or everything after some point (any suffix), or, more
// cruelly than a journal allows, any part of it.

import type { ContentStore, Inode, Tree } from "./observed-tree.ts";

export type DiskKind = "plain" | "vfat";

interface Names {
  readonly directory: number;
  readonly name: string;
  /** Null: the name is gone. */
  readonly ino: number | null;
}

interface Change {
  readonly number: number;
  readonly names: readonly Names[];
  readonly moved: readonly number[];
  readonly contents: readonly (readonly [ino: number, inode: Inode])[];
  /** Directories and moved or written inodes whose sync is still missing; empty: written. */
  readonly missingNames: Set<number>;
  readonly missingContents: Set<number>;
  isFlushed: boolean;
}

export class DiskModel {
  readonly #kind: DiskKind;
  readonly #base: Tree;
  readonly #changes: Change[] = [];
  #current: Tree;

  constructor(kind: DiskKind, base: Tree) {
    this.#kind = kind;
    this.#base = base;
    this.#current = base;
  }

  /** What the file system shows after a call. */
  observe(tree: Tree): void {
    const change = findChange(this.#current, tree);
    this.#current = tree;
    if (change === null) return;
    const isMove = change.moved.length > 0;
    const needed = isMove && this.#kind === "vfat" ? change.moved : [];
    this.#changes.push({
      ...change,
      number: this.#changes.length,
      missingNames: new Set([...change.names.map(({ directory }) => directory), ...needed]),
      missingContents: new Set(change.contents.map(([ino]) => ino)),
      isFlushed: false,
    });
  }

  /** fsync of an inode, which looks like this now (a file without a name is in no tree yet). */
  syncInode(ino: number, inode: Inode): void {
    for (const change of this.#changes) {
      change.missingNames.delete(ino);
      change.missingContents.delete(ino);
    }
    if (inode.kind === "file" && !this.#current.inodes.has(ino)) this.#nameless.set(ino, inode);
    this.#flush();
  }

  readonly #nameless = new Map<number, Inode>();

  /** Whether this content was synced before the file had a name. */
  #isSynced(ino: number, inode: Inode): boolean {
    return JSON.stringify(this.#nameless.get(ino)) === JSON.stringify(inode);
  }

  syncAll(): void {
    for (const change of this.#changes) {
      change.missingNames.clear();
      change.missingContents.clear();
    }
    if (this.#kind === "plain") this.#flush();
  }

  #flush(): void {
    for (const change of this.#changes) {
      const isNamed = change.missingNames.size === 0;
      if (isNamed && change.missingContents.size === 0) change.isFlushed = true;
    }
  }

  /** Units that may be lost now, in order: names of one call, or one content. */
  pending(): readonly Unit[] {
    return this.#changes.flatMap((change) => {
      if (change.isFlushed) return [];
      const isWritten = this.#kind === "plain";
      const units: Unit[] = [];
      for (const [ino, inode] of change.contents) {
        const lasts = isWritten && !change.missingContents.has(ino);
        if (!lasts && !this.#isSynced(ino, inode)) units.push({ change, ino });
      }
      if (change.names.length > 0 && !(isWritten && change.missingNames.size === 0)) {
        units.push({ change, ino: null });
      }
      return units;
    });
  }

  /** Equal for equal disks: what is on them. */
  keyWithout(lost: readonly Unit[]): string {
    const gone = new Set(lost.map(contentKey));
    const key: string[] = [];
    for (const { number, names, contents } of this.#changes) {
      if (names.length > 0 && !gone.has(`${number} null`)) key.push(`${number}`);
      for (const [ino] of contents) if (!gone.has(`${number} ${ino}`)) key.push(`${number}.${ino}`);
    }
    return Bun.hash(key.join()).toString(36);
  }

  /** The disk after a power cut that lost exactly these units. */
  without(lost: ReadonlySet<Unit>): Tree {
    const names = new Map([...this.#base.names].map(([ino, entries]) => [ino, new Map(entries)]));
    const inodes = new Map(this.#base.inodes);
    const lostNames = new Set([...lost].filter(({ ino }) => ino === null).map((u) => u.change));
    const lostContents = new Set([...lost].filter(({ ino }) => ino !== null).map(contentKey));
    for (const change of this.#changes) {
      for (const [ino, inode] of change.contents) {
        const key = contentKey({ change, ino });
        if (!lostContents.has(key)) inodes.set(ino, inode);
        // A file that was never written out is there, but empty.
        else if (!inodes.has(ino)) inodes.set(ino, emptied(inode));
        if (inode.kind === "directory" && !names.has(ino)) names.set(ino, new Map());
      }
      if (!lostNames.has(change)) for (const each of change.names) setName(names, each);
    }
    return { root: this.#base.root, names, inodes };
  }
}

export interface Unit {
  readonly change: Change;
  /** Of a content; null: the change's names. */
  readonly ino: number | null;
}

function contentKey({ change, ino }: Unit): string {
  return `${change.number} ${ino}`;
}

/** sha256 of nothing; the store has it. */
let empty = "";
export function prepareEmptyContent(store: ContentStore): void {
  empty = store.add(Buffer.alloc(0));
}

function emptied(inode: Inode): Inode {
  return inode.kind === "file" ? { ...inode, content: empty } : inode;
}

function setName(names: Map<number, Map<string, number>>, { directory, name, ino }: Names): void {
  const entries = names.get(directory) ?? new Map<string, number>();
  names.set(directory, entries);
  if (ino === null) entries.delete(name);
  else entries.set(name, ino);
}

function findChange(
  before: Tree,
  after: Tree,
): Pick<Change, "names" | "moved" | "contents"> | null {
  const names: Names[] = [];
  const gone = new Set<number>();
  const come = new Set<number>();
  for (const directory of new Set([...before.names.keys(), ...after.names.keys()])) {
    const [old, now] = [before.names.get(directory), after.names.get(directory)];
    // A directory that vanished takes its names with it.
    if (now === undefined) continue;
    for (const name of new Set([...(old?.keys() ?? []), ...now.keys()])) {
      const [was, is] = [old?.get(name), now.get(name)];
      if (was === is) continue;
      if (was !== undefined) gone.add(was);
      if (is !== undefined) come.add(is);
      names.push({ directory, name, ino: is ?? null });
    }
  }
  const contents = [...after.inodes].filter(
    ([ino, inode]) => JSON.stringify(before.inodes.get(ino)) !== JSON.stringify(inode),
  );
  if (names.length === 0 && contents.length === 0) return null;
  return { names, moved: [...come].filter((ino) => gone.has(ino)), contents };
}
