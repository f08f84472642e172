// Making a deployment's state directory (bootc.md 4.1, 4.10 g): put together under a partial name,
// written out, then renamed, so that `state/deploy/<id>` is always complete.

import { join } from "node:path";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { RENAME } from "../../shared/sys/constants.ts";
import { mkdiratIfMissing, openDirectory, removeTree } from "../../shared/sys/directory.ts";
import { fsync, syncfs } from "../../shared/sys/file.ts";
import { removeFrozenTree } from "../../shared/sys/frozen-tree.ts";
import { renameat2, symlinkat } from "../../shared/sys/link.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { addonRecordName } from "./addon-record.ts";
import {
  etcRulesName,
  policyRecordName,
  statementName,
  statePaths,
  trustRecordName,
  VAR_DIRECTORY,
} from "./state-directory.ts";
import { extractTree } from "./tree-extraction.ts";

/** systemd's time stamp; without it ConditionNeedsUpdate=/etc fires at the next boot. */
const UPDATE_STAMP = ".updated";

export interface NewState {
  readonly id: string;
  /** The image's /etc. */
  readonly etc: DirectoryNode;
  /** The image's /var, only at install: later /var belongs to the machine. */
  readonly var: DirectoryNode | null;
  /** Text of the origin file. */
  readonly origin: string;
  /** Text of the record of how the image was accepted. */
  readonly policy: string;
  /** The signed statement that prepare-root will want to see, where the image has one. */
  readonly statement: Uint8Array | null;
  /** Text of the record of what the image trusts. */
  readonly trust: string;
  /** Text of the record of addons that its unified kernel needs; null for a plain kernel. */
  readonly addons: string | null;
  /** Text of the record of the rules for /etc, where there are any. */
  readonly etcRules: string | null;
}

/**
 * Replaces a state directory of the same id, which the caller knows to be nobody's.
 * StateError("no-space") when the disk is full.
 */
export function writeState(repo: Repository, physicalRoot: string, state: NewState): void {
  try {
    writeStateFiles(repo, physicalRoot, state);
  } catch (error) {
    throw explainNoSpace(error, `deployment's files in "${physicalRoot}"`);
  }
}

function writeStateFiles(repo: Repository, physicalRoot: string, state: NewState): void {
  const paths = statePaths(physicalRoot, state.id);
  makeDirectories(paths.deploy);
  makeDirectories(join(physicalRoot, VAR_DIRECTORY, ".."));
  writeVar(repo, physicalRoot, state.var);
  removeFrozenTree(null, paths.partial);
  makeDirectories(paths.partial);
  extractTree(repo, state.etc, join(paths.partial, "etc"));
  removeTree(null, join(paths.partial, "etc", UPDATE_STAMP));
  symlinkat(paths.varTarget, null, join(paths.partial, "var"));
  using partial = openDirectory(null, paths.partial);
  writeFileAtomic(partial, `${state.id}.origin`, Buffer.from(state.origin), { mode: 0o644 });
  writeFileAtomic(partial, policyRecordName(state.id), Buffer.from(state.policy), { mode: 0o644 });
  writeFileAtomic(partial, trustRecordName(state.id), Buffer.from(state.trust), { mode: 0o644 });
  if (state.statement !== null) {
    writeFileAtomic(partial, statementName(state.id), state.statement, { mode: 0o644 });
  }
  if (state.addons !== null) {
    writeFileAtomic(partial, addonRecordName(state.id), Buffer.from(state.addons), { mode: 0o644 });
  }
  if (state.etcRules !== null) {
    writeFileAtomic(partial, etcRulesName(state.id), Buffer.from(state.etcRules), { mode: 0o644 });
  }
  syncfs(partial);
  // One that is tried again is still in the menu: at no moment it goes without.
  const isThere = fstatatIfExists(null, paths.directory) !== null;
  renameat2(null, paths.partial, null, paths.directory, isThere ? RENAME.EXCHANGE : 0);
  syncDirectory(paths.deploy);
  removeFrozenTree(null, paths.partial);
}

/** An existing /var is the machine's and stays. */
function writeVar(repo: Repository, physicalRoot: string, tree: DirectoryNode | null): void {
  const path = join(physicalRoot, VAR_DIRECTORY);
  if (tree === null) {
    makeDirectories(path);
    return;
  }
  const partial = `${path}.partial`;
  removeTree(null, partial);
  extractTree(repo, tree, partial);
  renameat2(null, partial, null, path, RENAME.NOREPLACE);
  syncDirectory(join(path, ".."));
}

function makeDirectories(path: string): void {
  const parents = path.split("/").map((_, index, parts) => parts.slice(0, index + 1).join("/"));
  for (const parent of parents) if (parent !== "") mkdiratIfMissing(null, parent, 0o755);
}

function syncDirectory(path: string): void {
  using fd = openDirectory(null, path);
  fsync(fd);
}
