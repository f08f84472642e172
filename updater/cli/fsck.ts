// `bootc internals fsck`: checks the repository of the booted system, or any other, and with --repair
// repairs it. Exit code 1 when there is something to report in the end.

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { FormatError, StateError, UsageError } from "../../shared/error.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { checkRepository, metadataFinding } from "../../shared/store/fsck.ts";
import { openRepository, type Repository } from "../../shared/store/repository.ts";
import { checkUsers, listDeploymentUsers, listTagUsers } from "../deploy/image-users.ts";
import { observeWorld } from "../deploy/world.ts";
import { checkImages } from "../image/image-check.ts";
import { type ImageReference, parseTransportReference } from "../image/reference.ts";
import { previewRepair, type RepairResult, repairRepository } from "../image/repair.ts";
import type { ImageUser } from "../image/repair-source.ts";
import { openSource } from "../image/source.ts";
import { recordEvent } from "../journal/events.ts";
import { checkHostSide, type HostCheck, printHost } from "./fsck-host.ts";
import { formatFinding, formatStep, formatUnrepaired, stepToJson } from "./fsck-text.ts";
import { watchInterruption } from "./interruption.ts";
import { openSession, type Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";

/** The repository after a check, and what was done about it. */
interface Checked {
  readonly sections: readonly Section[];
  readonly repair: RepairResult | null;
}

const FORMATS = ["humanreadable", "json"] as const;

export interface FsckOptions {
  readonly metadataOnly: boolean;
  readonly format: (typeof FORMATS)[number];
  readonly repair: boolean;
  readonly dryRun: boolean;
  /** Where a repair fetches from, instead of where each image came from. */
  readonly source: ImageReference | null;
}

interface Section {
  readonly name: string;
  readonly checked: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
}

export function makeFsckCommand(terminal: Terminal) {
  return addRepairOptions(new Command("fsck"))
    .description("Check the repository, the images in it, and what this machine boots")
    .option("--metadata-only", "leave out the contents of files")
    .addOption(new Option("--format <format>", "output format").choices(FORMATS))
    .option("--repo <directory>", "a repository other than the booted system's")
    .action(async ({ repo, format, ...rest }) => {
      const options = makeFsckOptions({ ...rest, format: format ?? "humanreadable" });
      if (repo !== undefined) {
        await checkDirectory(terminal, repo, options);
        return;
      }
      using session = openSession(options.repair && !options.dryRun ? "write" : "read", "fsck");
      const world = observeWorld(session.system, session.boot, session.booted);
      const users = [...listDeploymentUsers(world), ...listTagUsers(session.repo)];
      await check(terminal, session.repo, users, options, session);
    });
}

/** The options that `fsck` and `cfs fsck` share. */
export function addRepairOptions<T extends CommandUnknownOpts>(command: T) {
  return (command as unknown as Command)
    .option("--repair", "fetch what is damaged or missing again and put it back")
    .option("--dry-run", "with --repair: only say what would be done first")
    .option("--source <reference>", 'with --repair: where to fetch from, e.g. "oci:/path"');
}

/** UsageError when options contradict each other. */
export function makeFsckOptions(given: {
  readonly metadataOnly?: true | undefined;
  readonly format: FsckOptions["format"];
  readonly repair?: true | undefined;
  readonly dryRun?: true | undefined;
  readonly source?: string | undefined;
}): FsckOptions {
  const { metadataOnly, format, repair, dryRun, source } = given;
  if (repair !== true && (dryRun === true || source !== undefined)) {
    const name = dryRun === true ? "--dry-run" : "--source";
    throw new UsageError("conflict", `"${name}" needs "--repair"`);
  }
  return {
    metadataOnly: metadataOnly === true,
    format,
    repair: repair === true,
    dryRun: dryRun === true,
    source: source === undefined ? null : parseTransportReference(source),
  };
}

/** Checks the repository at `path` and prints the result; StateError when there are findings. */
export async function checkDirectory(
  terminal: Terminal,
  path: string,
  options: FsckOptions,
): Promise<void> {
  using opened = openOrFinding(path, options);
  if (opened.repo !== null) {
    await check(terminal, opened.repo, listTagUsers(opened.repo), options);
    return;
  }
  const findings = [opened.finding];
  finish(terminal, path, [{ name: "repository", checked: {}, findings }], options, null);
}

type Opened = Disposable &
  ({ readonly repo: Repository } | { readonly repo: null; readonly finding: Finding });

function openOrFinding(path: string, { repair, dryRun }: FsckOptions): Opened {
  try {
    // A repository from before meta.json gets one.
    const repo = openRepository(null, path, { upgrade: repair && !dryRun });
    return { repo, [Symbol.dispose]: () => repo[Symbol.dispose]() };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { repo: null, finding: metadataFinding(error), [Symbol.dispose]: () => {} };
  }
}

async function check(
  terminal: Terminal,
  repo: Repository,
  users: readonly ImageUser[],
  options: FsckOptions,
  session: Session | null = null,
): Promise<void> {
  const sections = await checkSections(repo, users, options);
  const result =
    options.repair && !options.dryRun
      ? await repair(terminal, repo, users, sections, options)
      : preview(repo, users, sections, options);
  const host = session === null ? null : checkHostSide(terminal, session, options);
  if (session !== null && options.repair && !options.dryRun) recordRepair(session, result, host);
  finish(terminal, repo.path, result.sections, options, result.repair, host);
}

function recordRepair(
  { system }: Session,
  { sections, repair: result }: Checked,
  host: HostCheck | null,
): void {
  const steps = [...(result?.steps ?? []), ...(host?.steps ?? [])];
  const mended = steps.filter(({ error }) => error === null).length;
  const remaining = allFindings(sections).length + (host?.findings.length ?? 0);
  if (mended === 0) return;
  const message = `Repaired ${mended} things; ${remaining} findings remain`;
  recordEvent(system, "repaired", message, { REPAIRED: mended, REMAINING: remaining });
}

function preview(
  repo: Repository,
  users: readonly ImageUser[],
  sections: readonly Section[],
  options: FsckOptions,
): Checked {
  if (!options.repair) return { sections, repair: null };
  const steps = previewRepair(repo, allFindings(sections), { users });
  return {
    sections,
    repair: { steps: steps.map((step) => ({ step, error: null })), remaining: [] },
  };
}

async function checkSections(
  repo: Repository,
  users: readonly ImageUser[],
  { metadataOnly }: FsckOptions,
): Promise<readonly Section[]> {
  const deployments = checkUsers(repo, users);
  return [
    { name: "repository", ...checkRepository(repo, { metadataOnly }) },
    { name: "OCI images", ...(await checkImages(repo, { metadataOnly })) },
    ...(deployments.checked.deployments > 0 ? [{ name: "deployments", ...deployments }] : []),
  ];
}

function allFindings(sections: readonly Section[]): readonly Finding[] {
  return sections.flatMap(({ findings }) => findings);
}

async function repair(
  terminal: Terminal,
  repo: Repository,
  users: readonly ImageUser[],
  before: readonly Section[],
  options: FsckOptions,
): Promise<Checked> {
  using interruption = watchInterruption();
  let sections = before;
  const result = await repairRepository(repo, allFindings(before), {
    users,
    source: options.source,
    open: (each) => openSource(each),
    signal: interruption.signal,
    check: async () => {
      sections = await checkSections(repo, users, options);
      return allFindings(sections);
    },
    onStep: (step, error) => terminal.note(formatStep(step, error === null ? "done" : "failed")),
  });
  return { sections, repair: result };
}

function finish(
  terminal: Terminal,
  path: string,
  sections: readonly Section[],
  options: FsckOptions,
  result: RepairResult | null,
  host: HostCheck | null = null,
): void {
  const count = allFindings(sections).length + (host?.findings.length ?? 0);
  if (options.format === "json") terminal.line(formatJson(sections, result, host));
  else {
    printSections(terminal, sections, options, result);
    if (host !== null) printHost(terminal, host, options);
  }
  if (count > 0) {
    const problems = count === 1 ? "1 problem" : `${count} problems`;
    const subject = host === null ? `Repository "${path}"` : "This machine";
    const state = result === null || options.dryRun ? "has" : "still has";
    throw new StateError("conflict", `${subject} ${state} ${problems}`, { path });
  }
  if (options.format !== "json") terminal.line(`Repository "${path}" has no problems`);
}

function printSections(
  terminal: Terminal,
  sections: readonly Section[],
  { dryRun }: FsckOptions,
  result: RepairResult | null,
): void {
  const reasons = new Map(result?.remaining.map((each) => [each.finding, each]));
  for (const { name, checked, findings } of sections) {
    const counts = Object.entries(checked).map(([what, found]) => `${found} ${what}`);
    if (findings.length === 0) terminal.line(`ok: ${name}: ${counts.join(", ")}`);
    for (const finding of findings) {
      const unrepaired = reasons.get(finding);
      terminal.line(
        unrepaired === undefined ? formatFinding(finding) : formatUnrepaired(unrepaired),
      );
    }
  }
  if (!dryRun || result === null) return;
  for (const { step } of result.steps) terminal.line(formatStep(step, "planned"));
}

function formatJson(
  sections: readonly Section[],
  result: RepairResult | null,
  host: HostCheck | null,
): string {
  const checked = Object.assign({}, ...sections.map((section) => section.checked));
  const reasons = new Map(result?.remaining.map((each) => [each.finding, each]));
  const errors = allFindings(sections).map((finding) => {
    const { kind, ...rest } = finding;
    const unrepaired = reasons.get(finding);
    if (unrepaired === undefined) return { type: kind, ...rest };
    const { neededBy, reason, advice } = unrepaired;
    return { type: kind, ...rest, advice, reason, neededBy };
  });
  const hostErrors = (host?.findings ?? []).map(({ kind, path, problem, advice }) => ({
    type: kind,
    path,
    problem,
    advice,
  }));
  const repairs = result === null ? undefined : [...result.steps, ...(host?.steps ?? [])];
  const all = [...errors, ...hostErrors];
  return JSON.stringify({
    ok: all.length === 0,
    checked,
    errors: all,
    repairs: repairs?.map(({ step, error }) => stepToJson(step, error)),
  });
}
