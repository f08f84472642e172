// `bootc status` (bootc.md 2.1). Asks nothing of who calls it: other users than root are answered through
// bootc-status.socket (status-socket.ts, docs/status.md).

import { Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { readSystem } from "../boot/system.ts";
import { detectEnvironment } from "../deploy/environment.ts";
import { makeHostState } from "../deploy/host-state.ts";
import { recordProblems } from "../deploy/problem-record.ts";
import { observeWorld } from "../deploy/world.ts";
import { readOstreeHost } from "../ostree/host-state.ts";
import { formatHostHuman } from "../output/human.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { formatYaml } from "../output/yaml.ts";
import type { Host } from "../spec/host.ts";
import { makeEmptyHost, makeHost, selectBooted } from "../spec/make-host.ts";
import { makeOstreeHost } from "../spec/make-ostree-host.ts";
import { findTpm, readSecureBoot } from "../trust/secure-boot.ts";
import { openSession } from "./session.ts";
import { askStatus } from "./status-socket.ts";
import type { Terminal } from "./terminal.ts";

const FORMATS = ["humanreadable", "yaml", "json"] as const;
type Format = (typeof FORMATS)[number];

export function makeStatusCommand(terminal: Terminal) {
  return new Command("status")
    .description("Show what is booted, what is staged and what can be rolled back to")
    .addOption(new Option("--format <format>", "output format").choices(FORMATS))
    .addOption(new Option("--json", "same as --format json").hideHelp())
    .option("--format-version <number>", "version of the document; 1 is the only one", parseVersion)
    .option("--booted", "only the booted deployment")
    .option("-v, --verbose", "also what is of use for debugging")
    .action(async (options) => {
      const host = await readHost();
      const shown = options.booted === true ? selectBooted(host) : host;
      const format = chooseFormat(options.format, options.json === true, terminal);
      terminal.write(formatHost(shown, format, options.verbose === true));
    });
}

function parseVersion(text: string): number {
  if (text === "0" || text === "1") return 1;
  throw new InvalidArgumentError(`Unsupported format version: ${text}`);
}

function chooseFormat(format: Format | undefined, json: boolean, terminal: Terminal): Format {
  if (format !== undefined) return format;
  if (json) return "json";
  return terminal.isInteractive ? "humanreadable" : "yaml";
}

function formatHost(host: Host, format: Format, verbose: boolean): string {
  switch (format) {
    case "humanreadable":
      return formatHostHuman(host, { verbose });
    case "yaml":
      return formatYaml(host);
    case "json":
      return formatCanonicalJson(host);
  }
}

/** A machine that was not booted from an image has an empty document. */
async function readHost(): Promise<Host> {
  const here = readSystem();
  const { kind } = detectEnvironment(here, process.env);
  if (kind !== "ostree" && kind !== "composefs") return makeEmptyHost();
  if (process.getuid?.() !== 0) return await askStatus(here);
  if (kind === "ostree") {
    const firmware = { secureBoot: readSecureBoot(here), tpm: findTpm(here) !== null };
    return makeOstreeHost(readOstreeHost(here), firmware);
  }
  using session = openSession("read", "status");
  const { system, boot, repo, booted } = session;
  const state = makeHostState(system, repo, observeWorld(system, boot, booted));
  const problems = [...session.problems, ...state.problems];
  recordProblems(system, problems);
  return makeHost({ ...state, problems });
}
