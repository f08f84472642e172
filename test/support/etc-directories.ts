// The flat trees of etc-trees.ts as real directories, written and read with Node's own calls so that
// the code under test does not vouch for itself.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { FlatTree } from "./etc-trees.ts";

/** "d/f" below "/tmp/x" as the bytes for a system call; names are byte strings. */
function bytePath(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, "latin1")]);
}

/** Makes `root` and everything in `flat` in it; owners are given only as root. */
export function makeDirectory(root: string, flat: FlatTree): void {
  mkdirSync(root, { mode: 0o755 });
  chmodSync(root, 0o755);
  const late: (() => void)[] = [];
  for (const key of Object.keys(flat).sort()) {
    const path = bytePath(root, key.replace(/\/$/, ""));
    const parents = key.split("/").slice(0, -1);
    for (let depth = 1; depth <= parents.length; depth++) {
      makeParent(bytePath(root, parents.slice(0, depth).join("/")));
    }
    const [, body = "", mode, uid, gid] =
      /^(.*?)(?: ?@(\d+)(?::(\d+):(\d+))?)?$/s.exec(flat[key]!) ?? [];
    if (!key.endsWith("/")) makeLeaf(path, body);
    if (uid !== undefined) lchownSync(path, Number(uid), Number(gid));
    // Afterwards, so that nothing is made in a closed directory.
    if (mode !== undefined && !body.startsWith("->"))
      late.push(() => chmodSync(path, Number.parseInt(mode, 8)));
  }
  for (const change of late) change();
}

function makeParent(path: Buffer): void {
  try {
    mkdirSync(path);
    chmodSync(path, 0o755);
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
  }
}

function makeLeaf(path: Buffer, body: string): void {
  if (body.startsWith("->")) {
    symlinkSync(Buffer.from(body.slice(3), "latin1"), path);
  } else if (body === "|") {
    const { status } = spawnSync("mkfifo", ["-m", "644", path.toString()]);
    if (status !== 0) throw new Error("mkfifo failed");
  } else {
    writeFileSync(path, Buffer.from(body, "latin1"));
    chmodSync(path, 0o644);
  }
}

/** The directory's content in the flat notation; owners are left out when they are ours. */
export function readBack(root: string, prefix = ""): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const entry of readdirSync(bytePath(root, prefix), { encoding: "buffer" })) {
    const key = `${prefix}${entry.toString("latin1")}`;
    const path = bytePath(root, key);
    const stat = lstatSync(path);
    const mode = stat.mode & 0o7777;
    const owner = isOwn(stat) ? "" : `:${stat.uid}:${stat.gid}`;
    const suffix = (usual: number) =>
      mode === usual && owner === "" ? "" : ` @${mode.toString(8)}${owner}`;
    if (stat.isDirectory()) {
      flat[`${key}/`] = suffix(0o755).trim();
      Object.assign(flat, readBack(root, `${key}/`));
    } else if (stat.isSymbolicLink()) {
      const target = readlinkSync(path, { encoding: "buffer" }).toString("latin1");
      flat[key] = `-> ${target}${suffix(0o777)}`;
    } else if (stat.isFile()) {
      flat[key] = `${readFileSync(path).toString("latin1")}${suffix(0o644)}`;
    } else {
      flat[key] = `|${suffix(0o644)}`;
    }
  }
  return flat;
}

function isOwn({ uid, gid }: { readonly uid: number; readonly gid: number }): boolean {
  return uid === process.getuid?.() && gid === process.getgid?.();
}
