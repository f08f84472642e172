// Secure Boot keys that an image brings, for systemd-boot to enrol (bootc.md 9.7):
// `usr/lib/bootc/install/secureboot-keys/<name>/*.auth` goes to `loader/keys/<name>/` on the boot partition.
//
// Whether they are enrolled is systemd-boot's decision: in a virtual machine it takes those of "auto" by
// itself, elsewhere its menu offers each <name>; `secure-boot-enroll` in loader.conf changes that. Nothing here
// writes that line: keys that do not fit a machine's firmware can make it unusable.

import { join } from "node:path";
import { FormatError } from "../../shared/error.ts";
import {
  type DirectoryNode,
  type FileNode,
  fromByteString,
  sortedNames,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import type { Step, Transaction } from "../../shared/txn/plan.ts";
import type { FileReader } from "../image/file-content.ts";
import { lookup } from "../image/tree-lookup.ts";

const IMAGE_KEYS = "usr/lib/bootc/install/secureboot-keys";
/** Of one file. */
export const MAX_KEY_BYTES = 1024 * 1024;

interface EnrolmentFile {
  /** e.g. `auto/PK.auth` */
  readonly path: string;
  readonly file: FileNode;
}

/** Sorted; none when the image brings none. FormatError for anything that looks like a mistake. */
export function findSecureBootKeys(tree: DirectoryNode): readonly EnrolmentFile[] {
  const top = lookup(tree, IMAGE_KEYS);
  if (top === null) return [];
  if (top.kind !== "directory") throw mistake("", "is no directory");
  return sortedNames(top).flatMap((name) => {
    const set = top.entries.get(name)!;
    if (set.kind !== "directory") {
      throw mistake(
        fromByteString(name),
        `is no directory; put its files in one, e.g. "${IMAGE_KEYS}/auto"`,
      );
    }
    return sortedNames(set)
      .filter((each) => each.endsWith(".auth"))
      .map((each) =>
        readEntry(`${fromByteString(name)}/${fromByteString(each)}`, set.entries.get(each)!),
      );
  });
}

/** Puts the keys on the boot partition; `read` gives the bytes of a file of the image. */
export function planSecureBootKeys(
  keys: readonly EnrolmentFile[],
  bootPath: string,
  read: FileReader,
): Transaction | null {
  const root = join(bootPath, "loader/keys");
  const sets = [...new Set(keys.map(({ path }) => path.split("/")[0]!))];
  const mkdir = (path: string): Step => ({ kind: "mkdir", path, mode: 0o755 });
  const writes = keys.map(({ path, file }): Step => {
    return { kind: "write", path: join(root, path), bytes: read(file), mode: 0o644 };
  });
  const commit = writes.pop();
  if (commit === undefined) return null;
  const parents = [join(bootPath, "loader"), root, ...sets.map((name) => join(root, name))];
  return { prepare: [...parents.map(mkdir), ...writes], commit, cleanup: [] };
}

function readEntry(path: string, node: TreeNode): EnrolmentFile {
  if (node.kind !== "file") throw mistake(path, "is no regular file");
  const size = node.content.kind === "inline" ? node.content.bytes.length : node.content.sizeBytes;
  if (size === 0 || size > MAX_KEY_BYTES) throw mistake(path, `has ${size} bytes`);
  return { path, file: node };
}

function mistake(path: string, what: string): FormatError {
  const full = path === "" ? IMAGE_KEYS : `${IMAGE_KEYS}/${path}`;
  return new FormatError("bad-value", `The image's "/${full}" ${what}`, { path: `/${full}` });
}
