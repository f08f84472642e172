// `bootc usr-overlay` for a root that is mounted somewhere: ROOT RUN ID [--read-only] [--dry-run]. Prints the
// plan as JSON, or what went wrong.

import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describeError } from "../../shared/error.ts";
import { parseMountTable } from "../../updater/boot/mount-table.ts";
import { overlayUsr } from "../../updater/deploy/usr-overlay.ts";

const [root = "", run = "", id = "", ...options] = process.argv.slice(2);
const system = {
  root,
  physicalRoot: join(root, "sysroot"),
  runDirectory: run,
  sysfs: "/sys",
  devices: "/dev",
  cmdline: "",
  mounts: parseMountTable(readFileSync("/proc/self/mountinfo", "utf8")),
  bootPath: null,
};
const command = [process.execPath, join(import.meta.dirname, "prepare-root.ts")];
try {
  const plan = overlayUsr(
    system,
    { command, mountNamespace: null },
    { id, verityOptional: true },
    { readOnly: options.includes("--read-only"), dryRun: options.includes("--dry-run") },
  );
  writeSync(1, JSON.stringify(plan));
} catch (error) {
  writeSync(2, describeError(error));
  process.exitCode = 1;
}
