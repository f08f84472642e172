// Deployments that did not start: `state/bootc/boot-failures.json` on the root disk, which outlives them
// (docs/boot-assessment.md describes the fields).
//
// Read leniently: a broken file or entry must never keep a machine from being looked after. Written whole,
// as canonical JSON, newest last.

import { join } from "node:path";
import * as z from "zod";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { type Step, writeText } from "../../shared/txn/plan.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";
import { makeDirectorySteps } from "./boot-record.ts";

const REASONS = ["initramfs", "verity", "unit", "watchdog", "unknown"] as const;
export type FailureReason = (typeof REASONS)[number];

export interface BootFailure {
  /** The deployment. */
  readonly id: string;
  readonly manifestDigest: string | null;
  /** As its origin names it: `ostree-unverified-image:docker://…`. */
  readonly image: string | null;
  /** RFC 3339: when the last start failed, as far as it is known, else when that was noticed. */
  readonly at: string;
  readonly reason: FailureReason;
  /** One sentence: which unit, which check, what prepare-root said. */
  readonly detail: string | null;
  /** Starts that failed, all together. */
  readonly attempts: number;
  /** Somebody asked for another try, which has not failed yet. */
  readonly retrying: boolean;
  /** That try is staged, and no shutdown has applied it yet. */
  readonly isRetryStaged?: boolean | undefined;
}

export interface FailureListing {
  readonly failures: readonly BootFailure[];
  readonly problems: readonly string[];
}

const FAILURES_FILE = "state/bootc/boot-failures.json";
const SIZE_LIMIT_BYTES = 256 * 1024;
/** Machines live for years; what failed long ago is of no use. */
const KEPT_FAILURES = 32;

const failureSchema = z.object({
  id: z.string().refine(isDeploymentId),
  manifestDigest: z.string().nullable().catch(null),
  image: z.string().nullable().catch(null),
  at: z.string(),
  reason: z.enum(REASONS).catch("unknown"),
  detail: z.string().nullable().catch(null),
  attempts: z.number().int().nonnegative().catch(1),
  retrying: z.boolean().catch(false),
  isRetryStaged: z.boolean().optional().catch(undefined),
});
const fileSchema = z.object({ failures: z.array(z.unknown()) });

export function readFailures(physicalRoot: string): FailureListing {
  const path = join(physicalRoot, FAILURES_FILE);
  try {
    const text = readSmallText(path, SIZE_LIMIT_BYTES);
    return text === null ? { failures: [], problems: [] } : parseFailures(text, path);
  } catch (error) {
    return {
      failures: [],
      problems: [`Earlier boot failures are unknown: ${describeError(error)}`],
    };
  }
}

/** Throws what JSON.parse throws; single entries that make no sense are left out, and named. */
export function parseFailures(text: string, path: string): FailureListing {
  const file = fileSchema.safeParse(JSON.parse(text));
  if (!file.success) return { failures: [], problems: [`"${path}" holds no list of failures`] };
  const parsed = file.data.failures.map((value) => failureSchema.safeParse(value));
  const broken = parsed.filter((result) => !result.success).length;
  return {
    failures: parsed.flatMap((result) => (result.success ? [result.data] : [])),
    problems: broken === 0 ? [] : [`${broken} entries of "${path}" make no sense and are ignored`],
  };
}

export function formatFailures(failures: readonly BootFailure[]): string {
  const kept = failures.slice(-KEPT_FAILURES).map((failure) => ({
    at: failure.at,
    attempts: failure.attempts,
    detail: failure.detail,
    id: failure.id,
    image: failure.image,
    manifestDigest: failure.manifestDigest,
    reason: failure.reason,
    retrying: failure.retrying,
    ...(failure.isRetryStaged === true ? { isRetryStaged: true } : {}),
  }));
  return `${JSON.stringify({ failures: kept })}\n`;
}

/** Steps that make these the known failures. */
export function writeFailuresSteps(physicalRoot: string, failures: readonly BootFailure[]): Step[] {
  return [
    ...makeDirectorySteps(physicalRoot),
    writeText(join(physicalRoot, FAILURES_FILE), formatFailures(failures)),
  ];
}

/** One sentence for people. */
export function describeFailure({ id, at, reason, detail, attempts }: BootFailure): string {
  const times = attempts === 1 ? "once" : `${attempts} times`;
  const why = detail === null ? reason : `${reason}: ${detail}`;
  return `Deployment ${shortId(id)} was tried ${times} and did not start, last at ${at} (${why})`;
}

export interface FailedImage {
  readonly id?: string;
  readonly manifestDigest?: string;
}

/** A failure that keeps an image from being staged: of this deployment, or of this manifest. */
export function findFailure(
  failures: readonly BootFailure[],
  image: FailedImage,
): BootFailure | null {
  return failures.find((failure) => !failure.retrying && isOf(failure, image)) ?? null;
}

/** The failures once this image gets another try; null when it has none. */
export function retryFailure(
  failures: readonly BootFailure[],
  image: FailedImage,
): readonly BootFailure[] | null {
  if (findFailure(failures, image) === null) return null;
  return failures.map((failure) =>
    isOf(failure, image) ? { ...failure, retrying: true, isRetryStaged: true } : failure,
  );
}

/** Without tries that were staged and are not any more (a power cut): nothing was tried. `staged`: what is. */
export function dropLostRetries(
  failures: readonly BootFailure[],
  staged: FailedImage | null,
): readonly BootFailure[] {
  return failures.map((failure) => {
    const isLost = failure.isRetryStaged === true && (staged === null || !isOf(failure, staged));
    return isLost ? endRetry(failure, false) : failure;
  });
}

/** The failures once this image is in the menu to be tried again; null: nothing changes. */
export function beginRetry(
  failures: readonly BootFailure[],
  image: FailedImage,
): readonly BootFailure[] | null {
  const begins = (failure: BootFailure) => failure.isRetryStaged === true && isOf(failure, image);
  if (!failures.some(begins)) return null;
  return failures.map((failure) => (begins(failure) ? endRetry(failure, true) : failure));
}

function endRetry({ isRetryStaged: _, ...failure }: BootFailure, retrying: boolean): BootFailure {
  return { ...failure, retrying };
}

function isOf(failure: BootFailure, { id, manifestDigest }: FailedImage): boolean {
  return (
    failure.id === id || (manifestDigest !== undefined && failure.manifestDigest === manifestDigest)
  );
}
