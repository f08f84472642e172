// What the unit does after a refusal (dracut-module/51bootc/prepare-root-failed.sh), with a command
// line, a console and a systemctl of the test's own.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const SCRIPT = join(import.meta.dirname, "../../dracut-module/51bootc/prepare-root-failed.sh");

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-failed-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

/** What systemctl was asked for, line by line, and what the console shows. */
function runAfter(
  result: string | undefined,
  cmdline: string,
  systemctlCode = 0,
  more: Readonly<Record<string, string>> = {},
) {
  const path = (name: string) => join(scratch, name);
  writeFileSync(path("cmdline"), `${cmdline}\n`);
  writeFileSync(path("console"), "");
  writeFileSync(path("kmsg"), "");
  writeFileSync(path("systemctl"), `#!/bin/sh\necho "$@" >>"$0.log"\nexit ${systemctlCode}\n`);
  chmodSync(path("systemctl"), 0o755);
  const argv = [SCRIPT, path("cmdline"), path("console"), path("systemctl"), "0"];
  argv.push(path("program"), path("kmsg"));
  const environment = result === undefined ? {} : { SERVICE_RESULT: result };
  const { stderr } = spawnSync("sh", argv, {
    env: { PATH: process.env["PATH"], ...environment, ...more },
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  const log = path("systemctl.log");
  return {
    asked: existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [],
    console: readFileSync(path("console"), "utf8").trim(),
    log: readFileSync(path("kmsg"), "utf8"),
  };
}

test.each([
  ["root=/dev/vda2 quiet", "reboot"],
  ["rd.shell=0", "reboot"],
  ["rd.shell rd.shell=0", "reboot"],
  ["xrd.shell rd.shells=1 rd.breaks", "reboot"],
  ["rd.emergency=poweroff", "poweroff"],
  ["rd.emergency=halt rd.shell=no", "halt"],
  ["rd.emergency=dance *", "reboot"],
])('"%s" ends in %s', (cmdline, action) => {
  const { asked, console } = runAfter("exit-code", cmdline);
  expect(asked).toEqual([`--force ${action}`]);
  expect(console).toContain(`In 0 seconds: ${action}.`);
});

test.each(["rd.shell", "rd.shell=1", "rd.shell=yes", "rd.break", "rd.break=pre-mount rd.shell=0"])(
  '"%s" ends in a shell',
  (cmdline) => {
    const { asked, console } = runAfter("exit-code", `quiet ${cmdline}`);
    expect(asked).toEqual([]);
    expect(console).toContain("An emergency shell was asked for");
  },
);

test.each(["success", undefined])("nothing happens after %s", (result) => {
  expect(runAfter(result, "")).toEqual({ asked: [], console: "", log: "" });
});

test("a systemctl that cannot reach systemd is told to do it by itself", () => {
  expect(runAfter("signal", "", 1).asked).toEqual(["--force reboot", "--force --force reboot"]);
});

test("a program that its addon did not bring is named", () => {
  symlinkSync("runtime/12ab/prepare-root", join(scratch, "program"));
  const { asked, log } = runAfter("exit-code", "quiet");
  expect(log).toMatch(
    /^<2>prepare-root: refused: the program is not in this initramfs \(\S+\/program -> runtime\/12ab\/prepare-root\): the UKI addon[^\n]*\n$/,
  );
  expect(asked).toEqual(["--force reboot"]);
  rmSync(join(scratch, "program"));
  writeFileSync(join(scratch, "program"), "");
  expect(runAfter("exit-code", "quiet").log).toBe("");
  expect(runAfter("success", "quiet").log).toBe("");
});

test.each([
  ["126", 1],
  ["127", 1],
  ["203", 1],
  ["1", 0],
])("a program that ends with %s has said so itself, or could not run", (status, lines) => {
  writeFileSync(join(scratch, "program"), "");
  const more = { EXIT_CODE: "exited", EXIT_STATUS: status };
  const { log } = runAfter("exit-code", "quiet", 0, more);
  expect(log.split("\n").length - 1).toBe(lines);
  if (lines > 0) expect(log).toContain(`cannot run in this initramfs (status ${status})`);
});
