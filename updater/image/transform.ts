// The two rewrites every image goes through before it becomes an EROFS image; its digest is the
// deployment id, so they must be exactly those of composefs-rs (composefs-rs.md 4.3, 4.4).
// Both change the tree in place.

import { FormatError } from "../../shared/error.ts";
import {
  type ByteString,
  type DirectoryNode,
  NO_XATTRS,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import type { FileReader } from "./file-content.ts";
import { relabelTree } from "./selinux.ts";

/** What survives of a layer's xattrs; everything else depends on the machine that built it. */
const KEPT_XATTR: ByteString = "security.capability";

/** Root takes the attributes of /usr, /run is emptied, xattrs are reduced to file capabilities. */
export function transformForOci(root: DirectoryNode): void {
  const usr = requireDirectory(root, "usr");
  root.mode = usr.mode;
  root.uid = usr.uid;
  root.gid = usr.gid;
  root.mtimeSec = usr.mtimeSec;
  root.mtimeNsec = usr.mtimeNsec;
  root.xattrs = usr.xattrs;
  const run = root.entries.get("run");
  if (run?.kind === "directory") {
    run.entries.clear();
    run.mtimeSec = usr.mtimeSec;
    run.mtimeNsec = usr.mtimeNsec;
  }
  filterXattrs(root);
}

/**
 * Empties /boot and /sysroot (the boot files were taken out before) and labels every file as the
 * image's own SELinux policy says.
 */
export function transformForBoot(root: DirectoryNode, readFile: FileReader): void {
  const usr = requireDirectory(root, "usr");
  for (const name of ["boot", "sysroot"]) {
    const directory = requireDirectory(root, name);
    directory.entries.clear();
    // Seconds only: composefs-rs leaves the nanoseconds, and they are part of the digest.
    directory.mtimeSec = usr.mtimeSec;
  }
  relabelTree(root, readFile);
}

function requireDirectory(root: DirectoryNode, name: string): DirectoryNode {
  const node = root.entries.get(name);
  if (node?.kind === "directory") return node;
  throw new FormatError(
    "not-found",
    `Image has no directory "/${name}", so it cannot be booted; add it when building the image`,
    { path: `/${name}` },
  );
}

function filterXattrs(node: TreeNode): void {
  node.xattrs = keepCapability(node.xattrs);
  if (node.kind !== "directory") return;
  for (const child of node.entries.values()) filterXattrs(child);
}

function keepCapability(xattrs: Xattrs): Xattrs {
  if (xattrs.size === 0) return NO_XATTRS;
  const value = xattrs.get(KEPT_XATTR);
  return value === undefined ? NO_XATTRS : new Map([[KEPT_XATTR, value]]);
}
