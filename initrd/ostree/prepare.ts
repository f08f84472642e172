// Starting an ostree deployment, top to bottom: config, which deployment, may it, plan, mount, hand over.
//
// Until the config says that nothing has to be trusted, nothing of the disk is read but symlinks and the
// objects whose signature is checked (ostree.md 1.2 to 1.4).

import { shortId } from "../../shared/bytes/hex.ts";
import { FormatError, isErrno, PolicyError, StateError } from "../../shared/error.ts";
import { encodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import { parsePublicKeys } from "../../shared/format/ostree/signature.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import { fchmod } from "../../shared/sys/attributes.ts";
import { MNT, MS, O } from "../../shared/sys/constants.ts";
import { rmdirat } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openatIfExists, readAll, writeAll } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { fstat, fstatatIfExists, fstatfs } from "../../shared/sys/stat.ts";
import { parseBootParameters, type VolatileMode } from "../boot-parameters.ts";
import { readFirstProgram } from "../first-program.ts";
import { type KernelFeatures, probeKernel } from "../kernel-features.ts";
import { resolveBelow } from "../path-below.ts";
import type { Outcome, Surroundings } from "../prepare-root.ts";
import { readInitramfsTrust, refuseUnsigned } from "../trust.ts";
import { type TrustRecord, writeTrustRecord } from "../trust-record.ts";
import { linkVolatileRoot } from "../volatile-root.ts";
import { assembleRoot } from "./assembly.ts";
import {
  COMPOSEFS_KARG,
  type ConfigText,
  OSTREE_CONFIG_FILES,
  type OstreeConfig,
  parseLegacyReadOnly,
  parseOstreeConfig,
} from "./config.ts";
import { type Deployment, findDeployment } from "./deployment.ts";
import { recordDeployment } from "./journal.ts";
import { findArgument, findOstreeTarget } from "./kernel-arguments.ts";
import { ASSEMBLY, HOTFIX_WORK, IMAGE_NAME, type OstreePlan, planOstreeRoot } from "./plan.ts";
import { findSignedDigest } from "./signed-digest.ts";

const TEXT_LIMIT_BYTES = 1 << 20;
/** ostree's own limit for metadata objects is 10 MiB. */
const OBJECT_LIMIT_BYTES = 10 << 20;
const IGNORED_VOLATILE =
  "systemd.volatile= is ignored on ostree deployments: set root.transient in prepare-root.conf";
const LEGACY_CONFIG = "ostree/repo/config";

export interface OstreeOptions {
  /** Where the root disk is mounted, and where the new root goes. */
  readonly sysroot: string;
  readonly cmdline: string;
  readonly run: string;
  /** The trust directory of signed images (../trust.ts); may be missing. */
  readonly trust: string;
}

/** Throws for every refusal; then the system is as it was, but for propagation between mounts. */
export function prepareOstreeRoot(options: OstreeOptions, surroundings: Surroundings): Outcome {
  const { cmdline } = options;
  const { init, volatile } = parseBootParameters(cmdline);
  const warnings = isIgnored(volatile) ? [IGNORED_VOLATILE] : [];
  const config = readConfig(findArgument(cmdline, COMPOSEFS_KARG));
  const anchors = readInitramfsTrust(options.trust);
  // The kernel's argument can take the signature back, and the command line is nobody's where keys decide.
  if (!config.signed) refuseUnsigned(anchors, 'prepare-root.conf does not say "enabled=signed"');
  const target = findOstreeTarget(cmdline);
  if (target === null) throw noTarget();
  const sysrootPath = resolveSysroot(options.sysroot);
  using sysroot = openat(null, sysrootPath, O.PATH | O.DIRECTORY);
  const deployment = findDeployment(sysroot, target);
  recordDeployment(deployment);
  const plan = planOstreeRoot({
    sysroot: sysrootPath,
    run: options.run,
    deployment: deployment.path,
    device: deployment.device,
    config,
    legacyReadOnly:
      config.composefs !== "yes" && readLegacyReadOnly(sysroot, sysrootPath, warnings),
    diskReadOnly: fstatfs(sysroot).readOnly,
    hasImage: has(sysroot, deployment, IMAGE_NAME),
    hasHotfix: has(sysroot, deployment, HOTFIX_WORK),
    mountsVar: mountsVar(options.run, surroundings, sysroot, deployment),
    digest: config.signed ? readSignedDigest(sysroot, deployment, config, anchors) : null,
    etcScratch: `${options.run}/ostree/transient-etc.${randomName()}`,
  });
  // Copies of a shared mount hear of each other's mounts, and a shared mount cannot be moved from.
  mount(null, "/", null, MS.REC | MS.PRIVATE, null);
  const probe = surroundings.probe ?? probeKernel;
  mountAll(plan, sysroot, { ...options, sysroot: sysrootPath, init }, { ...surroundings, probe });
  if (surroundings.early) {
    warnings.push(...writeTrustRecord(options.run, false, recordOf(deployment, config, plan)));
  }
  return { id: deployment.path, text: describe(deployment, config, plan), warnings };
}

function recordOf({ path }: Deployment, config: OstreeConfig, plan: OstreePlan): TrustRecord {
  return {
    mode: config.signed ? "ostree-signed" : "unsigned",
    id: path,
    key: null,
    keyName: config.signed ? config.keyFile : null,
    version: null,
    expires: null,
    verity: plan.isImage && config.requireVerity ? "enforced" : "optional",
    floor: { value: null, source: "none" },
    warnings: [],
  };
}

/** Puts the tree together, and over the sysroot when nothing can go wrong any more. */
function mountAll(
  plan: OstreePlan,
  sysroot: Fd,
  options: OstreeOptions & { readonly init: string | null },
  { early, probe }: Surroundings & { readonly probe: () => KernelFeatures },
): void {
  const { run, sysroot: target } = options;
  using undo = assembleRoot(plan, target, probe);
  if (plan.isImage) {
    using root = openat(null, ASSEMBLY, O.PATH | O.DIRECTORY);
    readFirstProgram(root, options.init, !early);
    linkVolatileRoot(sysroot, target, run, "/dev/gpt-auto-root");
  }
  const booted = `${run}/ostree-booted`;
  undo.defer(() => unlinkatIfExists(null, booted));
  writeRunFile(booted, encodeDictionary(plan.booted));
  umount2(target, MNT.DETACH);
  mount(ASSEMBLY, target, null, MS.MOVE, null);
  undo.move();
  process.chdir("/");
  removeAssembly();
}

/** What was in it before, and hidden, stays. */
function removeAssembly(): void {
  try {
    rmdirat(null, ASSEMBLY);
  } catch (error) {
    if (!isErrno(error, "ENOTEMPTY", "EBUSY")) throw error;
  }
}

/** "state" is done by systemd after the start; the others would cover what is mounted here. */
function isIgnored(volatile: VolatileMode): boolean {
  return volatile === "yes" || volatile === "overlay";
}

function readConfig(karg: string | null): OstreeConfig {
  const files = OSTREE_CONFIG_FILES.map((path) => readText(null, path)).filter(
    (file) => file !== null,
  );
  return parseOstreeConfig(files, karg);
}

/** Null when there is no such file; FormatError when it is not UTF-8. */
function readText(directory: Fd | null, path: string): ConfigText | null {
  using file = openatIfExists(directory, path, O.RDONLY);
  if (file === null) return null;
  const bytes = readAll(file, TEXT_LIMIT_BYTES);
  try {
    return { path, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (cause) {
    throw new FormatError("bad-value", `"${path}" is not UTF-8 text`, { path }, { cause });
  }
}

/** What is wrong with this file is no reason not to start: it is the disk's, and old. */
export function readLegacyReadOnly(sysroot: Fd, sysrootPath: string, warnings: string[]): boolean {
  try {
    const file = readText(sysroot, LEGACY_CONFIG);
    return file !== null && parseLegacyReadOnly(file);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    warnings.push(`"${sysrootPath}/${LEGACY_CONFIG}" is ignored: ${error.message}`);
    return false;
  }
}

function noTarget(): StateError {
  return new StateError(
    "missing",
    'No ostree= on the kernel command line, so nothing says which deployment to start: choose another boot entry, or add "ostree=/ostree/boot.N/..."',
  );
}

/** Overlays show paths of the disk: as everywhere, without symlinks. */
function resolveSysroot(path: string): string {
  using root = openat(null, "/", O.PATH | O.DIRECTORY);
  const found = resolveBelow({ fd: root, directories: new Map() }, path);
  using directory =
    found?.isDirectory === true ? openat(root, `.${found.path}`, O.PATH | O.DIRECTORY) : null;
  if (found !== null && directory !== null && fstat(directory).isMountRoot) return found.path;
  throw new StateError(
    "missing",
    `The root disk is not mounted on "${path}": check root= on the kernel command line`,
  );
}

function has(sysroot: Fd, { path }: Deployment, name: string): boolean {
  return fstatatIfExists(sysroot, `${path.slice(1)}/${name}`) !== null;
}

const GENERATOR = "usr/lib/systemd/system-generators/ostree-system-generator";

/** With systemd its generator mounts /var after the start, unless the initramfs was told to. */
function mountsVar(
  run: string,
  { isInit }: Surroundings,
  sysroot: Fd,
  deployment: Deployment,
): boolean {
  if (fstatatIfExists(null, `${run}/ostree/initramfs-mount-var`) !== null) return true;
  return isInit === true && !has(sysroot, deployment, GENERATOR);
}

function readSignedDigest(
  sysroot: Fd,
  { commit, path }: Deployment,
  config: OstreeConfig,
  anchors: TrustAnchors | null,
): string {
  const { keyFile } = config;
  const keys = readText(null, keyFile);
  if (keys === null) {
    throw new StateError(
      "missing",
      `prepare-root.conf wants a signature, but the initramfs has no "${keyFile}": put the public key there`,
    );
  }
  if (!/^[0-9a-f]{64}$/.test(commit)) {
    throw new StateError(
      "conflict",
      `The name of deployment "${path}" tells no commit, whose signature could be checked: choose another boot entry`,
    );
  }
  const digest = findSignedDigest(commit, parsePublicKeys(keys.text, keys.path), (id, kind) => {
    const name = `ostree/repo/objects/${id.slice(0, 2)}/${id.slice(2)}.${kind}`;
    using file = openatIfExists(sysroot, name, O.RDONLY | O.NONBLOCK);
    return file === null ? null : readAll(file, OBJECT_LIMIT_BYTES);
  });
  if (anchors?.revokedDigests.has(digest) !== true) return digest;
  throw new PolicyError(
    "revoked",
    `The image ${shortId(digest)} of commit ${shortId(commit)} is revoked: choose another boot entry`,
  );
}

/** Six letters and digits, as mkdtemp(3) takes. */
function randomName(): string {
  const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const numbers = crypto.getRandomValues(new Uint32Array(6));
  return Array.from(numbers, (number) => letters[number % letters.length]).join("");
}

export function writeRunFile(path: string, bytes: Uint8Array): void {
  using file = openat(null, path, O.WRONLY | O.CREAT | O.TRUNC, 0o644);
  writeAll(file, bytes);
  // Whatever the umask says: every program of the system may read it.
  fchmod(file, 0o644);
}

function describe({ commit }: Deployment, config: OstreeConfig, plan: OstreePlan): string {
  const image = plan.isImage ? "yes" : "no";
  const trust = config.signed ? "signed" : config.requireVerity ? "require" : "off";
  return `mounted ostree:${shortId(commit)} composefs=${image} verity=${plan.isImage ? trust : "off"} ${plan.text}`;
}
