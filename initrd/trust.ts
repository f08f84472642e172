// What an initramfs trusts, and whether it lets an image start (docs/decisions/0019-boot-trust.md).
//
// - Settings, keys and revocations come from the initramfs only (or, at a soft reboot, from the verified root that
//   runs), and are read before anything of the disk.
// - Of the disk one file is read for this, the signed statement of the image that the command line names; nothing
//   of it counts before a trusted key has signed it.
// - Without a trust directory nothing happens here: no file, no TPM, no cryptography.

import { shortId } from "../shared/bytes/hex.ts";
import { describeError, isErrno, PolicyError, StateError } from "../shared/error.ts";
import type { ComposefsKarg } from "../shared/format/kargs/composefs.ts";
import type { TrustAnchors } from "../shared/format/trust/anchors.ts";
import { judgeImage, type TrustJudgement } from "../shared/format/trust/judgement.ts";
import { MAX_DOCUMENT_BYTES } from "../shared/format/trust/statement.ts";
import { O } from "../shared/sys/constants.ts";
import { openDirectory } from "../shared/sys/directory.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openRegularFile, readAll } from "../shared/sys/file.ts";
import { openTrustFolder, readTrustAnchors } from "../shared/trust/anchors.ts";
import { type Floor, readFloor } from "../shared/trust/floor.ts";
import { mountEsp } from "./esp-mount.ts";
import type { Options } from "./options.ts";

/** The verdict about an image that may start. */
export interface StartTrust {
  readonly judgement: TrustJudgement;
  readonly floor: Pick<Floor, "source" | "value">;
  /** A "?" on the command line does not count. */
  readonly verityRequired: boolean;
  readonly warnings: readonly string[];
}

const NOTHING_ASKED: StartTrust = {
  judgement: { mode: "unsigned", key: null, statement: null, warnings: [] },
  floor: { source: "none", value: null },
  verityRequired: false,
  warnings: [],
};

/** Null when there is no trust directory. FormatError when something in it is wrong. */
export function readInitramfsTrust(path: string): TrustAnchors | null {
  using directory = openTrustFolder(path);
  return directory === null ? null : readTrustAnchors(directory);
}

/** PolicyError when the image that `karg` names may not start. */
export function judgeStart(
  karg: ComposefsKarg,
  disk: Fd,
  anchors: TrustAnchors | null,
  options: Options,
): StartTrust {
  if (anchors === null) return NOTHING_ASKED;
  const id = karg.digest;
  const floor = anchors.signed ? findFloor(disk, anchors, options) : null;
  const judgement = judgeImage({
    id,
    algorithm: `${karg.algorithm}-12`,
    anchors,
    document: anchors.signed ? readStatement(disk, id) : null,
    floor: floor?.value ?? null,
    now: new Date(),
  });
  return {
    judgement,
    floor: floor ?? NOTHING_ASKED.floor,
    verityRequired: anchors.signed && !anchors.allowMissingVerity,
    warnings: [...(floor?.problems ?? []), ...judgement.warnings],
  };
}

/** Starting anything that has no statement is refused where statements are wanted. */
export function refuseUnsigned(anchors: TrustAnchors | null, what: string): void {
  if (anchors?.signed !== true) return;
  throw new PolicyError(
    "unsigned",
    `${what}, and this initramfs starts signed images only: choose another boot entry`,
  );
}

/** Where trust.conf wants a TPM, a machine without one is not started: that was asked for. */
function findFloor(disk: Fd, anchors: TrustAnchors, options: Options): Floor {
  const problems: string[] = [];
  using esp = options.esp === null ? openEsp(disk, anchors, options, problems) : null;
  const espPath = options.esp ?? esp?.path ?? null;
  const floor = readFloor({ tpmPath: options.tpm, espPath, anchors });
  if (anchors.counter === "tpm" && !floor.tpmUsable) {
    throw new StateError(
      "missing",
      `trust.conf wants the version floor in a TPM (counter=tpm): ${floor.problems.join("; ")}; switch the TPM on in the firmware`,
    );
  }
  return { ...floor, problems: [...problems, ...floor.problems] };
}

function openEsp(disk: Fd, { counter }: TrustAnchors, { sysroot }: Options, problems: string[]) {
  if (counter === "none") return null;
  try {
    const mount = mountEsp(disk, sysroot);
    if (mount === null && counter === "esp") {
      problems.push("There is no EFI system partition, so no version floor is known");
    }
    return mount;
  } catch (error) {
    problems.push(`Cannot look for a version floor on the ESP: ${describeError(error)}`);
    return null;
  }
}

/** Null when there is none. Links are not followed, and nothing but a regular file is opened. */
function readStatement(disk: Fd, id: string): Uint8Array | null {
  try {
    using state = openDirectory(disk, "state");
    using deployments = openDirectory(state, "deploy");
    using deployment = openDirectory(deployments, id);
    using file = openRegularFile(deployment, `${id}.statement`, O.NOFOLLOW);
    if (file !== null) return readAll(file, MAX_DOCUMENT_BYTES);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP")) return null;
    throw unreadable(id, describeError(error));
  }
  throw unreadable(id, "it is not a regular file");
}

function unreadable(id: string, problem: string): PolicyError {
  return new PolicyError(
    "unsigned",
    `The statement of image ${shortId(id)} cannot be read (${problem}): choose another boot entry`,
    { id },
  );
}
