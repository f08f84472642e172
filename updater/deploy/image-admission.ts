// Asking updater/trust about an image that is to be deployed: what it trusts is in its tree, what runs trusts is
// below /usr, the floor in the TPM and on the ESP. Everything is read, nothing written.

import { PolicyError, StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { type Floor, readFloor } from "../../shared/trust/floor.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";
import type { BootImage } from "../image/boot-image.ts";
import { readFileContent } from "../image/file-content.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { addStatements } from "../image/statement-source.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { type Admission, admitImage, requireStatement } from "../trust/admission.ts";
import {
  type ImageTrust,
  readImageTrust,
  readUkiTrust,
  type UkiTrust,
} from "../trust/image-trust.ts";
import { readEntryUki, readRunningTrust } from "../trust/running-trust.ts";
import { findTpm } from "../trust/secure-boot.ts";
import { formatTrustRecord } from "../trust/trust-record.ts";
import type { World } from "./world.ts";

const TRUST_LIMIT_BYTES = 1 << 20;

export interface DeployedTrust extends Admission {
  readonly image: ImageTrust;
  /** What the image's initramfs will ask; null: nothing. */
  readonly floor: Floor | null;
}

export interface TrustPlace {
  readonly repo: Repository;
  readonly boot: BootDirectory;
  /** The machine that the image is to start on, as far as it is this one. */
  readonly system: System;
  /** The image is for this machine, whose TPM counts. */
  readonly isForThisMachine: boolean;
}

export interface TrustRequest {
  readonly image: Pick<BootImage, "deploymentId" | "kernel" | "tree">;
  /** What came with it. */
  readonly statements: readonly Uint8Array[];
  /** Null at installation. */
  readonly running: ImageTrust | null;
  readonly allowWeaker: boolean;
}

/** PolicyError when the image would not start, or is less than what runs. */
export function admitDeployment(place: TrustPlace, request: TrustRequest): DeployedTrust {
  const { allowWeaker, image, running, statements } = request;
  const trust = readBootImageTrust(place.repo, image);
  const floor = trust.anchors.signed ? readFloorFor(place, trust) : null;
  if (floor !== null) requireTpm(place, trust, floor);
  requireVerity(place.repo, trust);
  const admission = admitImage({
    id: image.deploymentId,
    image: trust,
    running,
    documents: statements,
    ownFloor: floor?.value ?? null,
    runningFloor: readRunningFloor(place, running),
    allowWeaker,
    now: new Date(),
  });
  const warnings = [...admission.warnings, ...(floor?.problems ?? [])];
  return { ...admission, warnings, image: trust, floor };
}

/** Before anything is fetched: PolicyError when no statement of the image is by a key of what runs. */
export function requireKnownSigner(
  place: Omit<TrustPlace, "repo">,
  request: Pick<TrustRequest, "allowWeaker" | "statements"> & { readonly running: ImageTrust },
): void {
  const { allowWeaker, running, statements: documents } = request;
  const runningFloor = allowWeaker ? null : readRunningFloor(place, running);
  requireStatement({ allowWeaker, documents, now: new Date(), runningFloor }, running);
}

/** The statements that came with it, which are looked for only when its initramfs will want one. */
export async function findStatements(
  repo: Repository,
  source: ImageSource,
  resolved: ResolvedImage,
  image: Pick<BootImage, "kernel" | "tree">,
): Promise<readonly Uint8Array[]> {
  if (resolved.statements !== undefined) return resolved.statements;
  if (!readBootImageTrust(repo, image).anchors.signed) return [];
  return (await addStatements(source, resolved)).statements ?? [];
}

/** What runs on this machine; FormatError when its trust directory is broken. */
export function observeRunningTrust(system: System, world: World): ImageTrust {
  return readRunningTrust(system, readBootedUki(world));
}

/** Null when the running deployment was not started from a unified kernel. */
function readBootedUki(world: World): UkiTrust | null {
  const isBooted = ({ deploymentId }: World["live"][number]) => deploymentId === world.booted?.id;
  return readEntryUki(world.live.find(isBooted), world.layout);
}

export function stateOfTrust({ document, image }: DeployedTrust): {
  readonly statement: Uint8Array | null;
  readonly trust: string;
} {
  return { statement: document, trust: formatTrustRecord(image) };
}

/** For `--dry-run`. */
export function describeTrust({ floor, image, judgement, warnings }: DeployedTrust): object {
  const { key, statement } = judgement;
  return {
    form: image.form,
    key: key === null ? null : { name: key.name, fingerprint: key.fingerprint },
    version: statement?.version ?? null,
    expires: statement?.expires ?? null,
    floor: { version: floor?.value ?? null, source: floor?.source ?? "none" },
    warnings,
  };
}

function readRunningFloor(
  place: Omit<TrustPlace, "repo">,
  running: ImageTrust | null,
): number | null {
  return running?.hasLastingKeys === true ? readFloorFor(place, running).value : null;
}

export function readFloorFor(
  { boot, isForThisMachine, system }: Omit<TrustPlace, "repo">,
  { anchors }: ImageTrust,
): Floor {
  const tpmPath = isForThisMachine ? findTpm(system) : null;
  return readFloor({ tpmPath, espPath: boot.layout.ukiPath, anchors });
}

/** As its initramfs will, for which "?" on the command line does not count. */
function requireVerity({ path, secure }: Repository, { anchors }: ImageTrust): void {
  if (secure || !anchors.signed || anchors.allowMissingVerity) return;
  throw new PolicyError(
    "rejected",
    `The image starts only where fs-verity protects it, and the repository "${path}" is without: install to a file system that has it, or say "allow-missing-verity=true" in the image's trust.conf`,
  );
}

/** As its initramfs will. */
function requireTpm(
  { isForThisMachine }: TrustPlace,
  { anchors }: ImageTrust,
  { problems, tpmUsable }: Floor,
): void {
  if (anchors.counter !== "tpm" || tpmUsable || !isForThisMachine) return;
  throw new StateError(
    "missing",
    `The image starts only on a machine with a TPM ("counter=tpm" in its trust.conf), and none can be used here (${problems.join("; ") || "there is no /dev/tpmrm0"}): switch it on in the firmware's setup`,
  );
}

function readBootImageTrust(
  repo: Repository,
  { kernel, tree }: Pick<BootImage, "kernel" | "tree">,
): ImageTrust {
  return readImageTrust(
    tree,
    (file) => readFileContent(repo, file, TRUST_LIMIT_BYTES),
    readKernelTrust(repo, kernel),
  );
}

function readKernelTrust(repo: Repository, kernel: BootImage["kernel"]): UkiTrust | null {
  if (kernel.kind !== "uki") return null;
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  return readUkiTrust(uki);
}
