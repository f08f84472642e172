// One executable with several names (docs/decisions/0001): the base name of argv0 picks the program,
// or the word after `bootc internals`.
//
// The initramfs half has to start fast, and so have the composefs tools: they are separate bundles and
// only the picked one is loaded (scripts/build/bundle.ts). This file and updater/cli/program.ts alone set
// the exit code.

import { basename } from "node:path";

/** bootc's own name for it, and `init` for an initramfs that has nothing else in it. */
const INITRAMFS_NAMES = ["prepare-root", "initramfs-setup", "bootc-initramfs-setup", "init"];
/** Upstream's name and command line for ostree's part of it. */
const OSTREE_NAME = "ostree-prepare-root";
const TOOL_NAMES = [
  ...(["mkcomposefs", "composefs-info", "mount.composefs", "composefs-dump"] as const),
  "bootc-boot-order-generator",
] as const;

/** composefs-rs' tool: `bootc internals cfs`, and the tools as its verbs. */
const CFSCTL_NAME = "cfsctl";

const words = process.argv.slice(2);
const internals = ["prepare-root", OSTREE_NAME, CFSCTL_NAME, ...TOOL_NAMES];
const isInternal = words[0] === "internals" && internals.includes(words[1] ?? "");
const given = isInternal ? words[1]! : basename(process.argv0);
const rest = isInternal ? words.slice(2) : words;
const isToolVerb = given === CFSCTL_NAME && TOOL_NAMES.some((each) => each === rest[0]);
const name = isToolVerb ? rest[0]! : given;
const argv = isToolVerb ? rest.slice(1) : rest;
const tool = TOOL_NAMES.find((each) => each === name);

if (INITRAMFS_NAMES.includes(name)) {
  const { runPrepareRoot } = await import("./initrd/main.ts");
  process.exitCode = runPrepareRoot(argv);
} else if (name === OSTREE_NAME) {
  const { runOstreePrepareRoot } = await import("./initrd/main.ts");
  process.exitCode = runOstreePrepareRoot(argv);
} else if (tool !== undefined) {
  const { runTool } = await import("./updater/cli/tools.ts");
  process.exitCode = runTool(tool, argv);
} else {
  const { runBootc } = await import("./updater/cli/program.ts");
  // Not exitCode: what does not answer (a server, a disk) must not keep an interrupted program alive.
  process.exit(await runBootc(name === CFSCTL_NAME ? ["internals", "cfs", ...argv] : argv));
}
