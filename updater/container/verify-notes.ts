// What the checks of `bootc container verify` have in common: what they are asked, what they look at, and where
// they leave what they find.

import { describeError, FormatError, IntegrityError, PolicyError } from "../../shared/error.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { TrustKey } from "../../shared/format/trust/key.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { BootKernel } from "../image/boot-kernel.ts";
import type { FileReader } from "../image/file-content.ts";
import type { SealedLines } from "../image/sealed-image.ts";
import type { ImageTrust, UkiTrust } from "../trust/image-trust.ts";

export interface VerifyRequest {
  /** Files in PEM: Secure Boot certificates, of which one must vouch for each program. */
  readonly certificates: readonly string[];
  /** One of them must have signed the statement; none: the image's own are enough. */
  readonly keys: readonly TrustKey[];
  readonly now: Date;
  /** For files; exists. */
  readonly directory: string;
}

/** Where the checks leave what they find. */
export interface Notes {
  readonly findings: string[];
  readonly warnings: string[];
}

/** What a unified kernel says. */
export interface UkiFacts extends UkiTrust, SealedLines {
  readonly cmdline: string | null;
  /** `.uname` */
  readonly release: string | null;
}

/** What all checks look at. */
export interface VerifiedImage {
  readonly repo: Repository;
  readonly kernel: BootKernel | null;
  readonly uki: UkiFacts | null;
  readonly trust: ImageTrust;
  readonly tree: DirectoryNode;
  readonly readFile: FileReader;
}

/** What the check says; null, and a finding, when it refuses. */
export function note<T>(notes: Notes, check: () => T): T | null {
  try {
    return check();
  } catch (error) {
    if (!isRefusal(error)) throw error;
    notes.findings.push(describeError(error));
    return null;
  }
}

function isRefusal(error: unknown): boolean {
  return (
    error instanceof FormatError || error instanceof IntegrityError || error instanceof PolicyError
  );
}
