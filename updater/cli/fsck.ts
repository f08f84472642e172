// `bootc internals fsck`: checks the repository of the booted system, or any other, and changes nothing.
// Exit code 1 when there is something to report.

import { Command, Option } from "@commander-js/extra-typings";
import { FormatError, StateError } from "../../shared/error.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { checkRepository, metadataFinding } from "../../shared/store/fsck.ts";
import { openRepository, type Repository } from "../../shared/store/repository.ts";
import { checkImages } from "../image/image-check.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

const FORMATS = ["humanreadable", "json"] as const;

export interface FsckOptions {
  readonly metadataOnly: boolean;
  readonly format: (typeof FORMATS)[number];
}

interface Section {
  readonly name: string;
  readonly checked: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
}

export function makeFsckCommand(terminal: Terminal) {
  return new Command("fsck")
    .description("Check the repository and the images in it")
    .option("--metadata-only", "leave out the contents of files")
    .addOption(new Option("--format <format>", "output format").choices(FORMATS))
    .option("--repo <directory>", "a repository other than the booted system's")
    .action(async ({ repo, metadataOnly, format }) => {
      const options = { metadataOnly: metadataOnly === true, format: format ?? "humanreadable" };
      if (repo !== undefined) {
        await checkDirectory(terminal, repo, options);
        return;
      }
      using session = openSession("read");
      await check(terminal, session.repo, options);
    });
}

/** Checks the repository at `path` and prints the result; StateError when there are findings. */
export async function checkDirectory(
  terminal: Terminal,
  path: string,
  options: FsckOptions,
): Promise<void> {
  using opened = openOrFinding(path);
  if (opened.repo !== null) await check(terminal, opened.repo, options);
  else {
    const findings = [opened.finding];
    finish(terminal, path, [{ name: "repository", checked: {}, findings }], options);
  }
}

type Opened = Disposable &
  ({ readonly repo: Repository } | { readonly repo: null; readonly finding: Finding });

function openOrFinding(path: string): Opened {
  try {
    const repo = openRepository(null, path);
    return { repo, [Symbol.dispose]: () => repo[Symbol.dispose]() };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { repo: null, finding: metadataFinding(error), [Symbol.dispose]: () => {} };
  }
}

async function check(terminal: Terminal, repo: Repository, options: FsckOptions): Promise<void> {
  const { metadataOnly } = options;
  const sections = [
    { name: "repository", ...checkRepository(repo, { metadataOnly }) },
    { name: "OCI images", ...(await checkImages(repo, { metadataOnly })) },
  ];
  finish(terminal, repo.path, sections, options);
}

function finish(
  terminal: Terminal,
  path: string,
  sections: readonly Section[],
  { format }: FsckOptions,
): void {
  const findings = sections.flatMap((section) => section.findings);
  if (format === "json") terminal.line(formatJson(sections, findings));
  else for (const section of sections) printSection(terminal, section);
  const count = findings.length;
  if (count > 0) {
    const problems = count === 1 ? "1 problem" : `${count} problems`;
    throw new StateError("conflict", `Repository "${path}" has ${problems}`, { path });
  }
  if (format !== "json") terminal.line(`Repository "${path}" has no problems`);
}

function printSection(terminal: Terminal, { name, checked, findings }: Section): void {
  const counts = Object.entries(checked).map(([what, count]) => `${count} ${what}`);
  if (findings.length === 0) terminal.line(`ok: ${name}: ${counts.join(", ")}`);
  for (const { kind, path, problem, advice } of findings) {
    terminal.line(`fsck error: ${kind}: ${path}: ${problem}; ${advice}`);
  }
}

function formatJson(sections: readonly Section[], findings: readonly Finding[]): string {
  const checked = Object.assign({}, ...sections.map((section) => section.checked));
  const errors = findings.map(({ kind, ...rest }) => ({ type: kind, ...rest }));
  return JSON.stringify({ ok: errors.length === 0, checked, errors });
}
