// Waiting for inhibitors and asking for the restart. logind and systemd are programs of the test here: what they
// were asked, and what they answer, is a file. The real ones are asked in test/vm.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JournalSocket } from "../../test/support/journal-socket.ts";
import { readSystem } from "../boot/system.ts";
import { type Restart, requestRestart } from "./reboot.ts";
import type { Terminal } from "./terminal.ts";

let scratch: string;
let path: string | undefined;
let said: string[];
let noted: PromiseWithResolvers<void>;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "reboot-"));
  for (const name of ["bin", "run/systemd/system", "run/systemd/inhibit"]) {
    mkdirSync(join(scratch, name), { recursive: true });
  }
  program("busctl", `cat "${scratch}/locks"`);
  program("systemd-run", `printf '%s\\n' "$@" >"${scratch}/asked"`);
  path = process.env["PATH"];
  process.env["PATH"] = `${scratch}/bin:${path}`;
  said = [];
  noted = Promise.withResolvers();
  setLocks();
});
afterEach(() => {
  process.env["PATH"] = path;
  rmSync(scratch, { recursive: true });
});

function program(name: string, body: string) {
  writeFileSync(join(scratch, "bin", name), `#!/bin/sh\n${body}\n`);
  chmodSync(join(scratch, "bin", name), 0o755);
}

/** As logind: the list first, then the change in its directory. */
function setLocks(...locks: readonly (readonly [what: string, who: string, mode: string])[]) {
  const rows = locks.map(([what, who, mode], index) => [what, who, "Busy", mode, 0, index + 1]);
  const reply = JSON.stringify({ type: "a(ssssuu)", data: [rows] });
  writeFileSync(join(scratch, "locks"), reply);
  const file = join(scratch, "run/systemd/inhibit/1");
  if (existsSync(file)) rmSync(file);
  else writeFileSync(file, "");
}

const say = (text: string) => {
  said.push(text.trimEnd());
  noted.resolve();
};
const terminal: Terminal = {
  write: say,
  line: say,
  note: say,
  progress: say,
  columns: null,
  isInteractive: false,
};

function request(signal = new AbortController().signal, kind: Restart = "reboot") {
  const system = { ...readSystem(), runDirectory: join(scratch, "run") };
  return requestRestart(system, terminal, { verb: "upgrade", kind }, signal);
}

const noteReboot = () => writeFileSync(join(scratch, "run/reboot-required"), "bootc: x\n");
const asked = () => existsSync(join(scratch, "asked"));

describe("requestRestart", () => {
  test("asks systemd from a unit of its own", async () => {
    using journal = new JournalSocket(join(scratch, "run"));
    expect(await request()).toBe(true);
    expect(readFileSync(join(scratch, "asked"), "utf8").split("\n")).toEqual([
      ...["--quiet", "--collect", "--property=Type=oneshot", "--property=DefaultDependencies=no"],
      ...["--", "systemctl", "reboot", "--message=Initiated by bootc", ""],
    ]);
    expect(said).toEqual([]);
    expect(journal.take()).toMatchObject([{ BOOTC_VERB: "upgrade" }]);
  });

  test("a soft one, too", async () => {
    expect(await request(undefined, "soft-reboot")).toBe(true);
    const words = readFileSync(join(scratch, "asked"), "utf8").split("\n");
    expect(words.slice(words.indexOf("--"))).toEqual(["--", "systemctl", "soft-reboot", ""]);
  });

  test("waits for those who are against it, and says for whom", async () => {
    noteReboot();
    setLocks(["shutdown", "backup", "block"], ["sleep", "player", "block"]);
    using journal = new JournalSocket(join(scratch, "run"));
    const done = request();
    await noted.promise;
    expect(said).toEqual(['Waiting to restart: backup (process 1) says "Busy"']);
    expect(asked()).toBe(false);
    noted = Promise.withResolvers();
    setLocks(["shutdown:idle", "apt", "block-weak"]);
    await noted.promise;
    expect(said[1]).toBe('Waiting to restart: apt (process 1) says "Busy"');
    setLocks(["shutdown", "libvirt", "delay"]);
    expect(await done).toBe(true);
    expect(asked()).toBe(true);
    const [record] = journal.take();
    expect(record?.["BOOTC_WAITED_FOR"]).toMatch(/^backup .*; apt /);
  });

  test("lets it be when nothing is pending any more after waiting", async () => {
    setLocks(["shutdown", "backup", "block"]);
    const done = request();
    await noted.promise;
    setLocks();
    expect(await done).toBe(false);
    expect(asked()).toBe(false);
    expect(said[1]).toBe("Nothing is pending any more; not restarting");
  });

  test("Ctrl-C ends the waiting", async () => {
    setLocks(["shutdown", "backup", "block"]);
    const controller = new AbortController();
    const done = request(controller.signal);
    await noted.promise;
    controller.abort(new Error("Interrupted"));
    await expect(done).rejects.toThrow("Interrupted");
    expect(asked()).toBe(false);
  });

  test("without logind nobody can be against it", async () => {
    program("busctl", "echo 'Failed to connect to bus' >&2; exit 1");
    expect(await request()).toBe(true);
  });

  test("what systemd-run says is the error", async () => {
    program("systemd-run", "echo 'Operation inhibited' >&2; exit 1");
    await expect(request()).rejects.toThrow(/systemd-run.*Operation inhibited/);
  });

  test("without systemd there is nobody to ask", async () => {
    rmSync(join(scratch, "run/systemd/system"), { recursive: true });
    await expect(request()).rejects.toThrow(/systemd is not running here/);
  });
});
