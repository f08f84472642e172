// A dirtree object `(a(say)a(sayay))`: the files of a directory with their content objects, and its directories with
// theirs (ostree.md 4.2). Names are what a path component may be, in strict byte order within each
// list, and no name is in both: ostree looks them up by halving, and two of one name would be two truths.

import { FormatError } from "../../error.ts";
import { decodeGVariant } from "../gvariant/decode.ts";
import { encodeGVariant } from "../gvariant/encode.ts";
import { type ByteString, fromByteString, toByteString } from "../tree/node.ts";
import { requireText } from "./file-header.ts";
import { checksumFromBytes, checksumToBytes } from "./object.ts";

export interface DirtreeFile {
  readonly name: ByteString;
  readonly checksum: string;
}
export interface DirtreeDirectory {
  readonly name: ByteString;
  readonly tree: string;
  readonly meta: string;
}
export interface Dirtree {
  readonly files: readonly DirtreeFile[];
  readonly directories: readonly DirtreeDirectory[];
}

const DIRTREE_TYPE = "(a(say)a(sayay))";
const MAX_NAME_BYTES = 255;

export function parseDirtree(bytes: Uint8Array): Dirtree {
  const [files, directories] = decodeGVariant(DIRTREE_TYPE, bytes) as unknown as readonly [
    readonly (readonly [string, Uint8Array])[],
    readonly (readonly [string, Uint8Array, Uint8Array])[],
  ];
  const tree: Dirtree = {
    files: files.map(([name, checksum]) => ({
      name: toByteString(name),
      checksum: checksumFromBytes(checksum, `The checksum of "${name}"`),
    })),
    directories: directories.map(([name, tree, meta]) => ({
      name: toByteString(name),
      tree: checksumFromBytes(tree, `The checksum of "${name}"`),
      meta: checksumFromBytes(meta, `The metadata checksum of "${name}"`),
    })),
  };
  checkNames(tree);
  return tree;
}

/** Lists in any order; FormatError for names that ostree cannot hold. */
export function encodeDirtree({ files, directories }: Dirtree): Uint8Array {
  const sorted: Dirtree = {
    files: files.toSorted(compareNames),
    directories: directories.toSorted(compareNames),
  };
  checkNames(sorted);
  const nameOf = (name: ByteString) => requireText(name, "A file name");
  return encodeGVariant(DIRTREE_TYPE, [
    sorted.files.map(({ name, checksum }) => [nameOf(name), checksumToBytes(checksum)]),
    sorted.directories.map(({ name, tree, meta }) => [
      nameOf(name),
      checksumToBytes(tree),
      checksumToBytes(meta),
    ]),
  ]);
}

interface Named {
  readonly name: ByteString;
}

function compareNames(a: Named, b: Named): number {
  if (a.name === b.name) return 0;
  return a.name < b.name ? -1 : 1;
}

function checkNames({ files, directories }: Dirtree): void {
  checkList(files);
  checkList(directories);
  const names = new Set(files.map(({ name }) => name));
  for (const { name } of directories) {
    if (names.has(name)) throw badName(name, "is both a file and a directory");
  }
}

function checkList(list: readonly Named[]): void {
  let previous = "";
  for (const { name } of list) {
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) {
      throw badName(name, "cannot be the name of a file");
    }
    if (name.length > MAX_NAME_BYTES) throw badName(name, `is longer than ${MAX_NAME_BYTES} bytes`);
    if (name <= previous) throw badName(name, "is out of order");
    previous = name;
  }
}

function badName(name: ByteString, problem: string): FormatError {
  return new FormatError(
    "bad-value",
    `In a directory object, "${fromByteString(name)}" ${problem}`,
    {
      format: "dirtree",
      field: "name",
    },
  );
}
