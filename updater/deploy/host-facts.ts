// What a check of the host side looks at, read once: the world, and for each deployment that matters what
// its image in the repository says it should be.

import { readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { FormatError, SyscallError } from "../../shared/error.ts";
import type { FileNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import {
  ADDONS_PARENT,
  checkKernelDirectory,
  hashRegularFile,
  type KernelState,
  UKI_PARENT,
} from "../boot/kernel-directory.ts";
import { computeUkiDigest, openUki } from "../boot/uki.ts";
import type { BootKernel, UnifiedKernelFiles } from "../image/boot-kernel.ts";
import { readFileContent } from "../image/file-content.ts";
import { readOsRelease } from "../image/os-release.ts";
import { readUnifiedKernel } from "../image/sealed-image.ts";
import { findRecordObstacle } from "./boot-record.ts";
import { readCleanupScope } from "./cleanup.ts";
import type { Deployer } from "./deployer.ts";
import { readImageTree } from "./image-tree.ts";
import { computeBootDigest, hashFile } from "./kernel-source.ts";
import { statePaths, VAR_DIRECTORY } from "./state-directory.ts";
import { findStoredKernel } from "./stored-kernel.ts";
import type { World } from "./world.ts";

const OS_RELEASE_LIMIT_BYTES = 1 << 20;
const RECORD_LIMIT_BYTES = 8 << 20;

export interface ImageFacts {
  readonly osRelease: ReadonlyMap<string, string>;
  /** Null when only metadata is looked at, and without kernel. */
  readonly bootDigest: string | null;
  /** Null when its files cannot be found. */
  readonly kernel: BootKernel | null;
  /** Of its unified kernel. */
  readonly unified?: UnifiedFacts;
}

export interface UnifiedFacts {
  /** Its arguments are in it. */
  readonly isSealed: boolean;
  /** SHA-256 of the file; null when only metadata is looked at. */
  readonly sha256: string | null;
  /** Addons for every kernel, with the SHA-256 of each. */
  readonly globalAddons: readonly { readonly name: string; readonly sha256: string | null }[];
}

/** A file on the boot partition. */
export interface UkiState {
  /** SHA-256 of the file; null when it cannot be read, or only metadata is looked at. */
  readonly sha256: string | null;
  /** Of kernel and initramfs in it; null the same, and when it is no unified kernel. */
  readonly bootDigest: string | null;
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
  /** The unified kernels that entries name, as far as they are there. */
  readonly ukis: ReadonlyMap<string, UkiState>;
  /** SHA-256 of each addon for every kernel that is of ours; null without reading. */
  readonly addons: ReadonlyMap<string, string | null>;
  /** Absolute paths of records of ours that cannot be understood, or of what is in their place; nothing is decided by one. */
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
  const manifestsOf = (id: string) =>
    (tagsById?.get(id) ?? []).map((tag) => tag.replace(/^.*bootc-/, ""));
  const read = (name: string): KernelState | null =>
    world.kernels.includes(name) ? checkKernelDirectory(boot, name, metadataOnly) : null;
  const ukis = entries.flatMap(({ artefact, entry }) =>
    artefact !== null && entry.target.kind === "efi" && world.ukis.includes(`${artefact}.efi`)
      ? [artefact]
      : [],
  );
  const { ukiPath } = boot.layout;
  const hash = (path: string) => (metadataOnly ? null : hashRegularFile(join(ukiPath ?? "", path)));
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
          image: readImageFacts(repo, world, id, manifestsOf(id), metadataOnly),
          manifestDigests: manifestsOf(id),
          varTarget: readLink(statePaths(system.physicalRoot, id).var),
        },
      ]),
    ),
    kernels: new Map([...artefacts, ...world.kernels].map((name) => [name, read(name)])),
    ukis: new Map(
      ukis.map((name) => [
        name,
        readUkiState(join(ukiPath ?? "", UKI_PARENT, `${name}.efi`), metadataOnly),
      ]),
    ),
    addons: new Map(world.globalAddons.map((name) => [name, hash(join(ADDONS_PARENT, name))])),
    brokenRecords: [
      ...[findRecordObstacle(system.physicalRoot) ?? []].flat(),
      ...listRecords(system.physicalRoot, world).filter(isBrokenRecord),
    ],
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
    ...states.flatMap(({ id }) => {
      const { addons, policy } = statePaths(physicalRoot, id);
      return [policy, addons];
    }),
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

function readImageFacts(
  repo: Repository,
  { states }: World,
  id: string,
  manifestDigests: readonly string[],
  metadataOnly: boolean,
): ImageFacts | null {
  const origin = states.find((state) => state.id === id)?.origin;
  try {
    const tree = readImageTree(repo, id);
    const osRelease = readOsRelease(tree, (file) =>
      readFileContent(repo, file, OS_RELEASE_LIMIT_BYTES),
    );
    const kernel = findStoredKernel(repo, tree, manifestDigests, origin?.bootType ?? "bls");
    const bootDigest = kernel === null || metadataOnly ? null : computeBootDigest(repo, kernel);
    if (kernel?.kind !== "uki") return { osRelease, bootDigest, kernel };
    return { osRelease, bootDigest, kernel, unified: readUnified(repo, kernel, metadataOnly) };
  } catch {
    return null; // the check of the repository says what is wrong with it
  }
}

function readUnified(
  repo: Repository,
  kernel: UnifiedKernelFiles,
  metadataOnly: boolean,
): UnifiedFacts {
  const hash = (file: FileNode) => (metadataOnly ? null : hashFile(repo, file));
  return {
    isSealed: readUnifiedKernel(repo, kernel).cmdline !== null,
    sha256: hash(kernel.file),
    globalAddons: kernel.globalAddons.map(({ name, file }) => ({ name, sha256: hash(file) })),
  };
}

function readUkiState(path: string, metadataOnly: boolean): UkiState {
  if (metadataOnly) return { sha256: null, bootDigest: null };
  const sha256 = hashRegularFile(path);
  try {
    using uki = openUki(path);
    return { sha256, bootDigest: computeUkiDigest(uki) };
  } catch (error) {
    if (error instanceof FormatError || error instanceof SyscallError) {
      return { sha256, bootDigest: null };
    }
    throw error;
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
