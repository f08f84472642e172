// Where the rules for /etc are read from (docs/etc.md):
//
//   /usr/lib/bootc/etc-merge.d/*.toml   of the image that is to boot: it knows its own defaults
//   /etc/bootc/etc-merge.d/*.toml       of this machine; a file hides the image's of the same name
//   /etc/bootc/etc-merge.toml           of this machine; counts last
//
// Drop-ins count in the order of their names, wherever they are. Whatever is wrong refuses the update
// when it is staged. At shutdown nobody could mend it: what was found when staging is used then.

import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { describeError, isErrno } from "../../shared/error.ts";
import { type DirectoryNode, fromByteString } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { decodeText, readSmallText } from "../../shared/sys/small-file.ts";
import { readFileContent } from "../image/file-content.ts";
import { lookupDirectory, lookupFile } from "../image/tree-lookup.ts";
import { type EtcRule, parseEtcPolicy, parseEtcPolicyRecord } from "./etc-policy.ts";

const IMAGE_DROP_INS = "usr/lib/bootc/etc-merge.d";
const LOCAL_DROP_INS = "etc/bootc/etc-merge.d";
const LOCAL_FILE = "etc/bootc/etc-merge.toml";
const LIMIT_BYTES = 1 << 20;

/**
 * The rules for a merge into `image`, the last one that names a path counting; `root` is where the
 * running /etc is. FormatError that names file and line.
 */
export function readEtcPolicy(
  root: string,
  repo: Repository,
  image: DirectoryNode,
): readonly EtcRule[] {
  const dropIns = new Map<string, () => readonly EtcRule[]>();
  for (const name of lookupDirectory(image, IMAGE_DROP_INS)?.entries.keys() ?? []) {
    const text = fromByteString(name);
    if (text.endsWith(".toml")) dropIns.set(text, () => readFromImage(repo, image, text));
  }
  for (const name of listDropIns(join(root, LOCAL_DROP_INS))) {
    dropIns.set(name, () => readFromDisk(root, `${LOCAL_DROP_INS}/${name}`));
  }
  const rules = [...dropIns.keys()].sort().flatMap((name) => dropIns.get(name)!());
  return [...rules, ...readFromDisk(root, LOCAL_FILE)];
}

function readFromImage(repo: Repository, image: DirectoryNode, name: string): readonly EtcRule[] {
  const path = `${IMAGE_DROP_INS}/${name}`;
  const file = lookupFile(image, path);
  if (file === null) return []; // a link to /dev/null, say
  const source = `/${path} (image)`;
  return parseEtcPolicy(decodeText(readFileContent(repo, file, LIMIT_BYTES), source), source);
}

function readFromDisk(root: string, path: string): readonly EtcRule[] {
  const file = join(root, path);
  const text = isNothing(file) ? null : readSmallText(file, LIMIT_BYTES);
  return text === null ? [] : parseEtcPolicy(text, `/${path}`);
}

/** As with systemd's drop-ins, a link to /dev/null says that there is to be nothing. */
function isNothing(path: string): boolean {
  try {
    return readlinkSync(path) === "/dev/null";
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

function listDropIns(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith(".toml"));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

export interface ShutdownPolicy {
  readonly rules: readonly EtcRule[];
  /** What is wrong with today's files, so that they were not used; null when nothing is. */
  readonly problem: string | null;
}

/**
 * The rules for merging at shutdown, which never fails: broken files leave what was recorded when the
 * deployment was staged (the file `record`), and a broken or missing record leaves no rules.
 */
export function readShutdownPolicy(
  root: string,
  repo: Repository,
  image: DirectoryNode,
  record: string,
): ShutdownPolicy {
  try {
    return { rules: readEtcPolicy(root, repo, image), problem: null };
  } catch (error) {
    return { rules: readRecord(record), problem: describeError(error) };
  }
}

function readRecord(path: string): readonly EtcRule[] {
  try {
    const text = readSmallText(path, LIMIT_BYTES);
    return text === null ? [] : parseEtcPolicyRecord(text, path);
  } catch {
    return [];
  }
}
