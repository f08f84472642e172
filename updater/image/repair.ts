// Repairs a repository: look, plan, take the steps, look again, until nothing is wrong or nothing more can
// be done. Only what is damaged is fetched, from where its image came from, and checked before it counts.
//
// Nothing is remembered between runs: after an interruption the next run looks and plans anew. What cannot
// be repaired stays where it is.

import { describeError } from "../../shared/error.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { type Repository, requireWritable } from "../../shared/store/repository.ts";
import { applyStep } from "./repair-apply.ts";
import { planRepair, type RepairStep, stepKey } from "./repair-plan.ts";
import { type ImageUser, isExpected, makeSources, type SourceOptions } from "./repair-source.ts";
import { surveyRepository } from "./repair-survey.ts";
import { explainFindings, type Unrepaired } from "./repair-verdict.ts";

/** Documents, layers, references, images, garbage, and damage that was hidden behind others. */
const MAX_ROUNDS = 12;
const MAX_ATTEMPTS = 3;

export interface RepairOptions extends SourceOptions {
  /** Everybody who needs an image of this repository. */
  readonly users: readonly ImageUser[];
  /** Every finding there is now. */
  readonly check: () => Promise<readonly Finding[]>;
  readonly onStep?: (step: RepairStep, error: string | null) => void;
}

export interface RepairResult {
  readonly steps: readonly { readonly step: RepairStep; readonly error: string | null }[];
  readonly remaining: readonly Unrepaired[];
}

/** The first steps, and what no step helps. Changes nothing. */
export function previewRepair(
  repo: Repository,
  findings: readonly Finding[],
  options: Pick<RepairOptions, "users">,
): readonly RepairStep[] {
  return planRepair(surveyRepository(repo, findings, options.users), new Set());
}

/** `findings` are those of a check just made. Throws only when interrupted, or when the disk fails. */
export async function repairRepository(
  repo: Repository,
  findings: readonly Finding[],
  options: RepairOptions,
): Promise<RepairResult> {
  requireWritable(repo);
  await using sources = makeSources(options);
  const taken: { readonly step: RepairStep; readonly error: string | null }[] = [];
  const attempts = new Map<string, number>();
  let found = findings;
  for (let round = 0; round < MAX_ROUNDS && found.length > 0; round++) {
    const survey = surveyRepository(repo, found, options.users);
    const useless = [...attempts].filter(([, count]) => count >= MAX_ATTEMPTS);
    const steps = planRepair(survey, new Set(useless.map(([key]) => key)));
    if (steps.length === 0) break;
    for (const step of steps) {
      options.signal?.throwIfAborted();
      const error = await attempt(() =>
        applyStep({ repo, sources, survey, signal: options.signal }, step),
      );
      options.signal?.throwIfAborted();
      // A step that works may be needed again; one that does not help would be planned for ever.
      const count = error === null ? (attempts.get(stepKey(step)) ?? 0) + 1 : MAX_ATTEMPTS;
      attempts.set(stepKey(step), count);
      taken.push({ step, error });
      options.onStep?.(step, error);
    }
    found = await options.check();
  }
  const survey = surveyRepository(repo, found, options.users);
  const errors = taken.filter(({ error }) => error !== null);
  return { steps: taken, remaining: explainFindings(survey, errors, sources) };
}

async function attempt(action: () => Promise<void>): Promise<string | null> {
  try {
    await action();
    return null;
  } catch (error) {
    if (!isExpected(error)) throw error;
    return describeError(error);
  }
}
