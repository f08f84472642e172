// `bootc internals ostree status` and `verify`: what an ostree system boots, and whether a repository is whole.

import { readFileSync } from "node:fs";
import { Command } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { parsePublicKeys } from "../../shared/format/ostree/signature.ts";
import { resolveRevision } from "../../shared/ostree/refs.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";
import { checkOstreeRepository, type OstreeCheckReport } from "../ostree/fsck.ts";
import { type OstreeDeployment, observeOstreeSysroot } from "../ostree/sysroot.ts";
import type { Terminal } from "./terminal.ts";

export function makeStatusCommand(terminal: Terminal, sysrootOf: () => string) {
  return new Command("status")
    .description("List the deployments of an ostree system, the default first")
    .option("--json", "as JSON")
    .action(({ json }) => {
      const root = sysrootOf();
      const { deployments, staged, problems } = observeOstreeSysroot(`${root}/`, `${root}/run`);
      if (json === true) {
        const plain = { staged, deployments: deployments.map(deploymentToJson), problems };
        terminal.line(JSON.stringify(plain));
      } else {
        if (staged !== null) {
          const { stateroot, commit, serial } = staged.target;
          terminal.line(`${stateroot} ${commit}.${serial} (staged)`);
        }
        for (const deployment of deployments) printDeployment(terminal, deployment);
        for (const problem of problems) terminal.line(`problem: ${problem}`);
      }
      if (problems.length > 0) {
        throw new StateError(
          "conflict",
          `The ostree system at "${root}/" has ${countOf(problems)}`,
        );
      }
    });
}

function printDeployment(terminal: Terminal, deployment: OstreeDeployment): void {
  const { stateroot, commit, serial, entry, entryFile, origin } = deployment;
  terminal.line(`${stateroot} ${commit}.${serial}`);
  terminal.line(`    Title: ${entry.title ?? "(none)"}`);
  terminal.line(`    Entry: ${entryFile}`);
  const source = origin?.containerImageReference ?? origin?.refspec ?? "(none)";
  terminal.line(`    Origin: ${source}${origin?.isPinned === true ? " (pinned)" : ""}`);
}

function deploymentToJson(deployment: OstreeDeployment) {
  const { stateroot, commit, serial, path, boot, entry, entryFile, entryName, origin } = deployment;
  return {
    stateroot,
    commit,
    serial,
    path,
    bootChecksum: boot.bootChecksum,
    bootSerial: boot.serial,
    entryFile,
    entryIndex: entryName.index,
    counter: entryName.counter,
    title: entry.title,
    options: entry.options,
    origin: origin === null ? null : { ...origin, keyfile: undefined },
  };
}

export function makeVerifyCommand(terminal: Terminal, open: () => OstreeRepository) {
  return new Command("verify")
    .alias("fsck")
    .description("Check objects, refs and signatures of a repository")
    .argument("[commits...]", "only these and what they lead to")
    .option("--key <file>", "every commit must be signed by an Ed25519 key in this file")
    .option("--images", "make the composefs images that commits name, and compare")
    .option("--json", "print the findings as JSON")
    .action(async (revisions, { key, images, json }) => {
      using repo = open();
      const keys = key === undefined ? null : readKeys(key);
      const commits =
        revisions.length === 0 ? null : revisions.map((each) => resolveRevision(repo, each));
      const report = await checkOstreeRepository(repo, {
        commits,
        keys,
        images: images === true,
      });
      if (json === true) terminal.line(formatJson(report));
      else printReport(terminal, repo.path, report);
      if (report.findings.length > 0) {
        const problems = countOf(report.findings);
        throw new StateError("conflict", `Repository "${repo.path}" has ${problems}`);
      }
    });
}

function readKeys(path: string): readonly Uint8Array[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new StateError("missing", `Cannot read the public keys in "${path}"`, {}, { cause });
  }
  return parsePublicKeys(text, path);
}

function printReport(
  terminal: Terminal,
  path: string,
  { checked, findings }: OstreeCheckReport,
): void {
  for (const { kind, path: where, problem, advice } of findings) {
    terminal.line(`fsck error: ${kind}: ${where}: ${problem}; ${advice}`);
  }
  if (findings.length > 0) return;
  const counts = Object.entries(checked).map(([what, count]) => `${count} ${what}`);
  terminal.line(`ok: ${counts.join(", ")}`);
  terminal.line(`Repository "${path}" has no problems`);
}

/** The form of `internals fsck --format json`. */
function formatJson({ checked, findings }: OstreeCheckReport): string {
  const errors = findings.map(({ kind, ...rest }) => ({ type: kind, ...rest }));
  return JSON.stringify({ ok: errors.length === 0, checked, errors });
}

function countOf(list: readonly unknown[]): string {
  return list.length === 1 ? "1 problem" : `${list.length} problems`;
}
