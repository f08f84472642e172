// What a check of the host side looks at, read once: the world, and for each deployment that matters what
// its image in the repository says it should be.

import { readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Repository } from "../../shared/store/repository.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { checkKernelDirectory, type KernelState } from "../boot/kernel-directory.ts";
import { findBootKernel } from "../image/boot-kernel.ts";
import { readFileContent } from "../image/file-content.ts";
import { readOsRelease } from "../image/os-release.ts";
import { readCleanupScope } from "./cleanup.ts";
import type { Deployer } from "./deployer.ts";
import { readImageTree } from "./image-tree.ts";
import { computeBootDigest, type KernelFiles } from "./kernel-source.ts";
import { statePaths, VAR_DIRECTORY } from "./state-directory.ts";
import type { World } from "./world.ts";

const OS_RELEASE_LIMIT_BYTES = 1 << 20;
const RECORD_LIMIT_BYTES = 8 << 20;

export interface ImageFacts {
  readonly osRelease: ReadonlyMap<string, string>;
  /** Null for a unified kernel, and when only metadata is looked at. */
  readonly bootDigest: string | null;
  /** Null for a unified kernel. */
  readonly kernel: KernelFiles | null;
}

export interface DeploymentFacts {
  readonly id: string;
  /** Null when it is not in the repository, or damaged there. */
  readonly image: ImageFacts | null;
  /** Of the manifests whose tags lead to it. */
  readonly manifestDigests: readonly string[];
  /** What the link `var` of its state says; null when it is none. */
  readonly varTarget: string | null;
}

export interface HostFacts {
  readonly world: World;
  readonly physicalRoot: string;
  /** The kernel command line that is running. */
  readonly cmdline: string;
  readonly hasVar: boolean;
  /** Those that boot, may boot, or are named by a broken entry. */
  readonly deployments: ReadonlyMap<string, DeploymentFacts>;
  /** All kernel directories, and those that entries name; null: not there. Digests are null without reading them. */
  readonly kernels: ReadonlyMap<string, KernelState | null>;
  /** Absolute paths of records of ours that cannot be understood; nothing is decided by one. */
  readonly brokenRecords: readonly string[];
  /** Without reading the kernels and their originals. */
  readonly metadataOnly: boolean;
}

export function readHostFacts(
  { system, boot, repo }: Deployer,
  world: World,
  metadataOnly: boolean,
): HostFacts {
  const { tagsById } = readCleanupScope(repo, world, { always: true });
  const entries = [...world.live, ...(world.staged ?? [])];
  const artefacts = entries.flatMap(({ artefact, entry }) =>
    artefact !== null && entry.target.kind === "linux" ? [artefact] : [],
  );
  const read = (name: string): KernelState | null =>
    world.kernels.includes(name) ? checkKernelDirectory(boot, name, metadataOnly) : null;
  const ids = listIds(world);
  return {
    world,
    physicalRoot: system.physicalRoot,
    cmdline: system.cmdline,
    hasVar: isDirectory(join(system.physicalRoot, VAR_DIRECTORY)),
    deployments: new Map(
      ids.map((id) => [
        id,
        {
          id,
          image: readImageFacts(repo, id, metadataOnly),
          manifestDigests: (tagsById?.get(id) ?? []).map((tag) => tag.replace(/^.*bootc-/, "")),
          varTarget: readLink(statePaths(system.physicalRoot, id).var),
        },
      ]),
    ),
    kernels: new Map([...artefacts, ...world.kernels].map((name) => [name, read(name)])),
    brokenRecords: listRecords(system.physicalRoot, world).filter(isBrokenRecord),
    metadataOnly,
  };
}

/** JSON that this program keeps beside bootc's files. */
function listRecords(physicalRoot: string, { states }: World): readonly string[] {
  const machine = [
    "boot-failures.json",
    "boot-failed.json",
    "boot-refused.json",
    "cached-update.json",
  ];
  return [
    ...machine.map((name) => join(physicalRoot, "state/bootc", name)),
    ...states.map(({ id }) => statePaths(physicalRoot, id).policy),
  ];
}

function isBrokenRecord(path: string): boolean {
  try {
    const text = readSmallText(path, RECORD_LIMIT_BYTES);
    const value: unknown = text === null ? {} : JSON.parse(text);
    return typeof value !== "object" || value === null;
  } catch {
    return true;
  }
}

function listIds(world: World): readonly string[] {
  const entries = [...world.live, ...(world.staged ?? [])];
  const broken = [...world.brokenLive, ...world.brokenStaged].filter((entry) => entry.isOurs);
  // An empty file names nobody: then it may be any that has no entry.
  const states = broken.length === 0 ? [] : world.states.map(({ id }) => id);
  const ids = [
    ...(world.booted === null ? [] : [world.booted.id]),
    ...entries.flatMap(({ deploymentId }) => deploymentId ?? []),
    ...[...world.pins, ...states],
  ];
  return [...new Set(ids)];
}

function readImageFacts(repo: Repository, id: string, metadataOnly: boolean): ImageFacts | null {
  try {
    const tree = readImageTree(repo, id);
    const osRelease = readOsRelease(tree, (file) =>
      readFileContent(repo, file, OS_RELEASE_LIMIT_BYTES),
    );
    const found = findBootKernel(tree);
    const kernel =
      found.kind === "bls" ? { vmlinuz: found.vmlinuz, initrd: found.initramfs } : null;
    const bootDigest = kernel === null || metadataOnly ? null : computeBootDigest(repo, kernel);
    return { osRelease, bootDigest, kernel };
  } catch {
    return null; // the check of the repository says what is wrong with it
  }
}

function readLink(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
