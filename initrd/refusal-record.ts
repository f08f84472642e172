// Leaves the reason of a refusal on the root disk, for the deployment that starts instead:
// `state/bootc/boot-refused.json`, which the updater reads (docs/boot-assessment.md).
//
// Only after the refusal was said, only where the disk is writable already, and never instead of it: whatever
// goes wrong here is forgotten.

import { IntegrityError } from "../shared/error.ts";
import { O } from "../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../shared/sys/directory.ts";
import { fsync, openat, writeAll } from "../shared/sys/file.ts";
import { renameat2 } from "../shared/sys/link.ts";
import { fstatfs } from "../shared/sys/stat.ts";
import { parseBootParameters } from "./boot-parameters.ts";
import { readCmdline } from "./prepare-root.ts";

const NAME = "boot-refused.json";
const TEXT_LIMIT = 1000;

/** `cmdline` null: the kernel's own. `text`: the line that was said. */
export function recordRefusal(
  sysroot: string,
  cmdline: string | null,
  error: unknown,
  text: string,
): void {
  try {
    const id = parseBootParameters(cmdline ?? readCmdline()).composefs[0]?.digest;
    if (id === undefined) return;
    using state = openat(null, `${sysroot}/state`, O.RDONLY | O.DIRECTORY);
    if (fstatfs(state).readOnly) return;
    mkdiratIfMissing(state, "bootc", 0o755);
    using directory = openat(state, "bootc", O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    const flags = O.WRONLY | O.CREAT | O.TRUNC | O.NOFOLLOW;
    using file = openat(directory, `.${NAME}.new`, flags, 0o644);
    const kind = error instanceof IntegrityError ? "verity" : "other";
    const record = { at: new Date().toISOString(), id, kind, text: text.slice(0, TEXT_LIMIT) };
    writeAll(file, Buffer.from(`${JSON.stringify(record)}\n`));
    fsync(file);
    renameat2(directory, `.${NAME}.new`, directory, NAME);
    fsync(directory);
  } catch {}
}
