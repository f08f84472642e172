// What the plan of a soft reboot needs to know beside the world (docs/soft-reboot.md): what this systemd can
// do, the mount settings in the deployments' images, their SELinux policies. Each is read when it is asked
// for, once.

import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { readSmallFile } from "../../shared/sys/small-file.ts";
import type { System } from "../boot/system.ts";
import { readFileContent } from "../image/file-content.ts";
import { lookup, lookupFile } from "../image/tree-lookup.ts";
import { diffEtc } from "./etc-merge.ts";
import { readShutdownPolicy } from "./etc-policy-files.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import type { SoftRebootFacts, SoftRebootImage } from "./soft-reboot-plan.ts";
import { statePaths } from "./state-directory.ts";
import { requireBooted, type World } from "./world.ts";

const SETTINGS = "usr/lib/composefs/setup-root-conf.toml";
const SETTINGS_LIMIT_BYTES = 1 << 20;
const CONFIG_LIMIT_BYTES = 1 << 20;
const POLICY_LIMIT_BYTES = 1 << 28;
const INITS = ["usr/lib/systemd/systemd", "sbin/init"];
const TARGET_UNIT = "usr/lib/systemd/system/soft-reboot.target";

export function readSoftRebootFacts(
  system: System,
  repo: Repository,
  world: World,
): SoftRebootFacts {
  const hasSelinux = existsSync(join(system.sysfs, "fs/selinux/enforce"));
  const etcOf = (id: string) =>
    id === world.booted?.id ? join(system.root, "etc") : statePaths(system.physicalRoot, id).etc;
  const tree = remember((id: string) => readImageTree(repo, id));
  return {
    isSupported: existsSync(join(system.root, TARGET_UNIT)),
    cmdline: system.cmdline,
    selinuxPolicy: hasSelinux ? (id) => readSelinuxPolicy(etcOf(id)) : null,
    image: (id) => describeImage(repo, tree(id)),
    conflicts: (id) => findConflicts(system, repo, world, id, tree),
  };
}

function remember<T>(read: (id: string) => T): (id: string) => T {
  const known = new Map<string, T>();
  return (id) => {
    const value = known.get(id) ?? read(id);
    known.set(id, value);
    return value;
  };
}

function describeImage(repo: Repository, root: DirectoryNode): SoftRebootImage {
  const hasInit = INITS.some((path) => lookup(root, path)?.kind === "file");
  return { settings: readSettings(repo, root), hasInit };
}

function readSettings(repo: Repository, root: DirectoryNode): string | null {
  const file = lookupFile(root, SETTINGS);
  if (file === null) return null;
  return Buffer.from(readFileContent(repo, file, SETTINGS_LIMIT_BYTES)).toString("utf8");
}

/** Digest of the newest policy of the configured type; null when there is none. */
function readSelinuxPolicy(etc: string): string | null {
  const config = readSmallFile(join(etc, "selinux/config"), CONFIG_LIMIT_BYTES);
  const text = config === null ? "" : Buffer.from(config).toString("utf8");
  const type = /^\s*SELINUXTYPE\s*=\s*([A-Za-z0-9_-]+)/m.exec(text)?.[1];
  if (type === undefined) return null;
  const directory = join(etc, "selinux", type, "policy");
  const versions = listDirectory(directory)
    .map((name) => /^policy\.([0-9]+)$/.exec(name)?.[1])
    .filter((version) => version !== undefined)
    .map(Number);
  if (versions.length === 0) return null;
  const newest = join(directory, `policy.${Math.max(...versions)}`);
  const bytes = readSmallFile(newest, POLICY_LIMIT_BYTES);
  return bytes === null ? null : createHash("sha256").update(bytes).digest("hex");
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

/** What shutdown could not merge; only what is staged is merged. */
function findConflicts(
  system: System,
  repo: Repository,
  world: World,
  id: string,
  tree: (id: string) => DirectoryNode,
): string[] {
  if (world.stagedFile?.id !== id) return [];
  const etcOf = (image: string) => ({ repo, etc: requireEtc(tree(image), image) });
  const bootedId = requireBooted(world).id;
  const { etcRules } = statePaths(system.physicalRoot, id);
  const { rules } = readShutdownPolicy(system.root, repo, tree(id), etcRules);
  const { conflicts } = diffEtc(etcOf(bootedId), join(system.root, "etc"), etcOf(id), rules);
  return conflicts.map(({ reason }) => reason);
}
