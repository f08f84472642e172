// `bootc edit`: the host's specification in an editor, or from a file; what was changed in it is done
// (bootc.md 1.2). A changed image is a switch, a changed boot order a rollback or taking one back.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { Command } from "@commander-js/extra-typings";
import { FormatError, StateError } from "../../shared/error.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { hasProgram } from "../boot/program.ts";
import { readSystem } from "../boot/system.ts";
import { type EditPlan, type HostSpecification, planEdit } from "../deploy/edit-plan.ts";
import { makeHostState } from "../deploy/host-state.ts";
import { observeWorld } from "../deploy/world.ts";
import { displayReference, type ImageReference, makeImageReference } from "../image/reference.ts";
import { recordEvent } from "../journal/events.ts";
import { formatYaml, parseYaml } from "../output/yaml.ts";
import { API_VERSION, HOST_KIND, type Host, parseHost } from "../spec/host.ts";
import { makeHost } from "../spec/make-host.ts";
import { absoluteReference } from "./absolute-reference.ts";
import { formatPlan } from "./plan-text.ts";
import { rollBack } from "./rollback.ts";
import { openSession } from "./session.ts";
import { switchImage } from "./switch.ts";
import type { Terminal } from "./terminal.ts";

const LIMIT_BYTES = 1 << 20;
const EDITORS = ["editor", "nano", "vim", "vi"];

export function makeEditCommand(terminal: Terminal) {
  return new Command("edit")
    .description("Change the host's specification in $EDITOR, and do what was changed")
    .option("-f, --filename <file>", "take it from this file (YAML or JSON) instead")
    .option("--quiet", "no progress")
    .option("--dry-run", "only print what would be done, as JSON")
    .action(async (options) => {
      const before = readHost();
      const current = readSpecification(before, "this host");
      const wanted =
        options.filename === undefined
          ? editHost(before)
          : readSpecification(
              parseDocument(readFile(options.filename), options.filename),
              options.filename,
            );
      const plan = planEdit(current, wanted);
      if (plan.kind !== "unchanged") requireUnmoved(current);
      await carryOut(terminal, plan, wanted.bootOrder, {
        quiet: options.quiet === true,
        dryRun: options.dryRun === true,
      });
    });
}

async function carryOut(
  terminal: Terminal,
  plan: EditPlan,
  bootOrder: HostSpecification["bootOrder"],
  { quiet, dryRun }: { readonly quiet: boolean; readonly dryRun: boolean },
): Promise<void> {
  switch (plan.kind) {
    case "unchanged":
      if (dryRun) terminal.write(formatPlan(plan));
      else terminal.line("Edit cancelled, no changes made.");
      return;
    case "rollback":
      if (rollBack(terminal, dryRun)) recordEdit(null, bootOrder);
      return;
    case "switch": {
      const isStaged = await switchImage(terminal, absoluteReference(plan.reference), {
        quiet,
        dryRun,
        retain: false,
        retryFailed: false,
        allowWeakerTrust: false,
        progressFd: undefined,
      });
      if (isStaged) recordEdit(plan.reference, bootOrder);
    }
  }
}

function recordEdit(reference: ImageReference | null, bootOrder: HostSpecification["bootOrder"]) {
  recordEvent(readSystem(), "edited", "The host's specification was edited", {
    IMAGE: reference === null ? null : displayReference(reference),
    BOOT_ORDER: bootOrder,
  });
}

function readHost(): Host {
  using session = openSession("read", "edit");
  const { system, boot, repo, booted } = session;
  return makeHost(makeHostState(system, repo, observeWorld(system, boot, booted)));
}

/** An editor may be open for days, and nothing is locked meanwhile. */
function requireUnmoved(before: HostSpecification): void {
  if (isDeepStrictEqual(readSpecification(readHost(), "this host"), before)) return;
  throw new StateError(
    "conflict",
    "The host's specification was changed by somebody else meanwhile; edit it again",
  );
}

/** FormatError or UsageError that names `source`. */
function readSpecification(host: Host, source: string): HostSpecification {
  const { image, bootOrder } = host.spec;
  if (image === null) return { image, bootOrder };
  const { signature = null } = image;
  try {
    const reference = makeImageReference(image.transport, image.image);
    return { image: { ...reference, ...(signature === null ? {} : { signature }) }, bootOrder };
  } catch (cause) {
    throw new FormatError("bad-value", `The specification in "${source}" is wrong`, {}, { cause });
  }
}

function readFile(path: string): string {
  const text = readSmallText(path, LIMIT_BYTES);
  if (text !== null) return text;
  throw new StateError("missing", `There is no file "${path}"`, { path });
}

/** FormatError that names `source`, and what in it is wrong. */
function parseDocument(text: string, source: string): Host {
  const value = parseYaml(text, source);
  try {
    return requireOurs(parseHost(value));
  } catch (cause) {
    throw new FormatError("bad-value", `Cannot use "${source}"`, { path: source }, { cause });
  }
}

function requireOurs(host: Host): Host {
  if (host.apiVersion === API_VERSION && host.kind === HOST_KIND) return host;
  throw new FormatError(
    "bad-value",
    `It is a "${host.kind}" of "${host.apiVersion}", expected "${HOST_KIND}" of "${API_VERSION}"`,
  );
}

/** The editor's result; what cannot be used is kept, so that no work is lost. */
function editHost(host: Host): HostSpecification {
  const directory = mkdtempSync(join(tmpdir(), "bootc-edit-"));
  const file = join(directory, "host.yaml");
  let isKept = false;
  try {
    writeFileSync(file, formatYaml(host), { mode: 0o600 });
    runEditor(file);
    try {
      return readSpecification(parseDocument(readFileSync(file, "utf8"), file), file);
    } catch (cause) {
      isKept = true;
      throw new StateError(
        "conflict",
        `Nothing was changed; your text is kept, "bootc edit -f ${file}" takes it when it is mended`,
        { path: file },
        { cause },
      );
    }
  } finally {
    if (!isKept) rmSync(directory, { recursive: true, force: true });
  }
}

/** `$EDITOR` may have arguments of its own, so a shell takes it apart, as everywhere. */
function runEditor(file: string): void {
  const editor = process.env["EDITOR"] || EDITORS.find(hasProgram);
  if (editor === undefined) {
    throw new StateError(
      "missing",
      'There is no editor; set the variable "EDITOR", or use "bootc edit -f FILE"',
    );
  }
  const { exitCode, signalCode } = Bun.spawnSync(["sh", "-c", `${editor} "$1"`, "sh", file], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  if (exitCode === 0) return;
  const how = signalCode === undefined ? `exit code ${exitCode}` : signalCode;
  throw new StateError(
    "command-failed",
    `The editor "${editor}" failed (${how}); nothing was changed`,
  );
}
