// Records of every event in a real journal: systemd-journald of the image tools root, started in a mount
// namespace of its own, and journalctl.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EVENTS, type EventName } from "../../updater/journal/events.ts";
import { ensureImageTools } from "../support/image-tools.ts";
import { runInMountNamespace } from "../support/mount-namespace.ts";
import { ROOT as PROJECT } from "../support/source-tree.ts";

let tools: string;
let scratch: string;
beforeAll(async () => {
  tools = await ensureImageTools();
  scratch = mkdtempSync(join(tmpdir(), "journal-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

// systemd-notify returns when journald is ready. Its socket takes more than the usual ten records at a time, for
// which a network namespace has a setting. A socket's path has 107 bytes at most, so the sender uses the short one.
const SCRIPT = `
  mkdir "$SCRATCH/run"
  mount -t tmpfs run "$SCRATCH/run"
  mkdir -p "$SCRATCH/run/log/journal" "$SCRATCH/run/systemd/journal"
  echo 0123456789abcdef0123456789abcdef >"$SCRATCH/run/machine-id"
  mount --bind "$TOOLS" "$TOOLS"
  mount --bind "$SCRATCH/run" "$TOOLS/run"
  mount --rbind /dev "$TOOLS/dev"
  mount -t proc proc "$TOOLS/proc"
  mount -t tmpfs etc "$TOOLS/etc"
  cp "$SCRATCH/run/machine-id" "$TOOLS/etc/machine-id"
  journald=$(unshare --net sh -c '
    echo 512 >/proc/sys/net/unix/max_dgram_qlen
    exec chroot "$TOOLS" systemd-notify --fork -- /usr/lib/systemd/systemd-journald')
  trap 'kill "$journald"' EXIT
  "$BUN" "$PROJECT/test/support/journal-child.ts" "$SCRATCH/run"
  chroot "$TOOLS" journalctl --sync
  step records chroot "$TOOLS" journalctl --directory=/run/log/journal --no-pager -o json SYSLOG_IDENTIFIER=bootc
  step one chroot "$TOOLS" journalctl --directory=/run/log/journal --no-pager -o cat MESSAGE_ID=${EVENTS.rolledBack.id}
  step theirs chroot "$TOOLS" journalctl --directory=/run/log/journal --no-pager -o cat F_MESSAGE_ID=${EVENTS.rolledBack.bootcId}
`;

test("journalctl finds every event by its id, with all fields", { timeout: 120_000 }, () => {
  const steps = runInMountNamespace(SCRIPT, {
    BUN: process.execPath,
    PROJECT,
    SCRATCH: scratch,
    TOOLS: tools,
  });
  const records = steps
    .get("records")!
    .output.split("\n")
    .map((line): Record<string, string> => JSON.parse(line));
  const names = Object.keys(EVENTS) as EventName[];
  expect(records.map((record) => record["MESSAGE"])).toEqual(
    names.map((name) => `This is ${name}`),
  );
  for (const [index, name] of names.entries()) {
    const { id, priority, bootcId, fields } = EVENTS[name];
    const expected = {
      MESSAGE_ID: id,
      PRIORITY: String(priority),
      _TRANSPORT: "journal",
      ...(bootcId !== null && { F_MESSAGE_ID: bootcId }),
      ...Object.fromEntries(fields.map((field) => [`BOOTC_${field}`, `${name}\n${field}`])),
    };
    expect(records[index]).toMatchObject(expected);
  }
  expect(steps.get("one")!.output).toBe("This is rolledBack");
  expect(steps.get("theirs")!.output).toBe("This is rolledBack");
});
