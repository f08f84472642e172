// Asking updater/trust about an image that is to be deployed: what it trusts is in its tree, what runs trusts is
// below /usr, the floor in the TPM and on the ESP. Everything is read, nothing written.

import { PolicyError, StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { Floor } from "../../shared/trust/floor.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";
import type { BootImage } from "../image/boot-image.ts";
import { readFileContent } from "../image/file-content.ts";
import type { FoundStatements, ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { addStatements } from "../image/statement-source.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { type Admission, admitImage, requireStatement } from "../trust/admission.ts";
import { type FloorMachine, readImageFloor } from "../trust/floor-places.ts";
import {
  type ImageTrust,
  readImageTrust,
  readUkiTrust,
  type UkiTrust,
} from "../trust/image-trust.ts";
import type { ProgramSignature } from "../trust/program-verdict.ts";
import { readEntryUki, readRunningTrust } from "../trust/running-trust.ts";
import { formatTrustRecord } from "../trust/trust-record.ts";
import { admitProgram, readProgramSignature } from "./program-admission.ts";
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

/** What an image says about itself, read once, and what came with it. */
export interface ImageClaims {
  readonly trust: ImageTrust;
  readonly statements: FoundStatements;
  /** Of its unified kernel; null: it has none. */
  readonly program: ProgramSignature | null;
}

export interface TrustRequest {
  /** The deployment. */
  readonly id: string;
  readonly claims: ImageClaims;
  /** Null at installation. */
  readonly running: ImageTrust | null;
  readonly allowWeaker: boolean;
}

/** PolicyError when the image would not start, or is less than what runs. */
export function admitDeployment(place: TrustPlace, request: TrustRequest): DeployedTrust {
  const { allowWeaker, claims, id, running } = request;
  const { trust } = claims;
  const machine = floorMachine(place);
  const floor = readImageFloor(machine, trust);
  if (floor !== null) requireTpm(place, trust, floor);
  requireVerity(place.repo, trust);
  const admission = admitImage({
    ...{ id, image: trust, running },
    ...claims.statements,
    ownFloor: floor?.value ?? null,
    runningFloor: running === null ? null : (readImageFloor(machine, running)?.value ?? null),
    allowWeaker,
    now: new Date(),
  });
  // At an installation the disk may be for another firmware, or its keys be enrolled later.
  const isStaged = running !== null && claims.program !== null;
  const program = isStaged ? admitProgram(place.system, claims.program, allowWeaker) : [];
  const warnings = [...admission.warnings, ...(floor?.problems ?? []), ...program];
  return { ...admission, warnings, image: trust, floor };
}

/** Before anything is fetched: PolicyError when no statement of the image is by a key of what runs. */
export function requireKnownSigner(
  place: Omit<TrustPlace, "repo">,
  request: Pick<TrustRequest, "allowWeaker"> &
    Pick<ImageClaims, "statements"> & { readonly running: ImageTrust },
): void {
  const { allowWeaker, running, statements } = request;
  if (allowWeaker || !running.hasLastingKeys) return;
  const runningFloor = readImageFloor(floorMachine(place), running)?.value ?? null;
  requireStatement({ allowWeaker, ...statements, now: new Date(), runningFloor }, running);
}

/** PolicyError for a trust directory that is wrong. Statements are looked for only where its initramfs will want one. */
export async function readClaims(
  repo: Repository,
  source: ImageSource,
  resolved: ResolvedImage,
  image: Pick<BootImage, "kernel" | "tree">,
): Promise<ImageClaims> {
  const trust = readBootImageTrust(repo, image);
  const program = readProgramSignature(repo, image.kernel);
  if (!trust.anchors.signed) {
    const statements = resolved.statements ?? { documents: [], gap: null };
    return { trust, program, statements };
  }
  const { statements } = await addStatements(source, resolved);
  return { trust, program, statements };
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

function floorMachine({ boot, isForThisMachine, system }: Omit<TrustPlace, "repo">): FloorMachine {
  return { system, layout: boot.layout, isForThisMachine };
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
