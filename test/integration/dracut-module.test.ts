// What the dracut module puts into an initramfs, with the handful of dracut's functions that it calls played by
// plain copies. With the real dracut it runs for every image of the VM tests.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const MODULE = join(import.meta.dirname, "../../dracut-module/51bootc");
/** What is copied keeps its path below the image; the program is a link, of which both ends are taken. */
const DRACUT = `
put() { mkdir -p "$initdir$(dirname "$2")"; cp -P "$1" "$initdir$2"; }
inst_simple() { if [ $# = 2 ]; then put "$1" "$2"; else put "$dracutsysrootdir$1" "$1"; fi; }
inst_script() { inst_simple "$@"; }
inst_binary() { inst_simple "$1"; inst_simple /usr/bin/bootc; }
inst_multiple() { :; }
instmods() { :; }
check_kernel_module() { [ "$1" = tpm_crb ]; }
# dracut-install -R: what the executable, the last word, is linked with.
resolve() { for last; do :; done; [ -e "$last" ] && inst_simple /usr/lib/libprogram.so; }
DRACUT_INSTALL=resolve
dfatal() { echo "fatal: $*"; }
SYSTEMCTL=true systemdsystemunitdir=/usr/lib/systemd/system moddir=$MODULE
. "$MODULE/module-setup.sh"
installkernel && install`;

let scratch: string;
const image = (path: string) => join(scratch, "image", path);
const made = (path: string) => join(scratch, "initramfs", path);

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "dracut-module-"));
  put("usr/bin/bootc", "the program");
  put("usr/lib/libprogram.so", "its library");
  mkdirSync(image("usr/lib/bootc"), { recursive: true });
  symlinkSync("../../bin/bootc", image("usr/lib/bootc/prepare-root"));
  mkdirSync(made("usr/lib/systemd/system"), { recursive: true });
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(image(path)), { recursive: true });
  writeFileSync(image(path), text);
}

function runModule(env: Readonly<Record<string, string>> = {}) {
  const { status, stderr, stdout } = spawnSync("bash", ["-c", DRACUT], {
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      MODULE,
      initdir: made(""),
      dracutsysrootdir: image(""),
      ...env,
    },
  });
  return { code: status, output: `${stdout}${stderr}` };
}

test("the trust directory goes in as it is, and TPM drivers are loaded early", () => {
  const files = ["keys.d/vendor.pub", "keys.d/with space.pub", "revoked.d/2026", "trust.conf"];
  for (const name of files) put(`usr/lib/bootc/trust/${name}`, name);
  expect(runModule()).toEqual({ code: 0, output: "" });
  for (const name of files) {
    expect(readFileSync(made(`usr/lib/bootc/trust/${name}`), "utf8")).toBe(name);
  }
  expect(readFileSync(made("usr/lib/modules-load.d/bootc.conf"), "utf8")).toBe("tpm_crb\n");
  expect(readFileSync(made("usr/bin/bootc"), "utf8")).toBe("the program");
});

test("without one nothing of it is there", () => {
  expect(runModule()).toEqual({ code: 0, output: "" });
  expect(readdirSync(made("usr/lib/bootc")).sort()).toEqual([
    "prepare-root",
    "prepare-root-failed",
  ]);
});

test("a link in it ends dracut, as it would end every start", () => {
  put("usr/lib/bootc/trust/keys.d/vendor.pub", "key");
  symlinkSync("/etc/keys/x.pub", image("usr/lib/bootc/trust/keys.d/x.pub"));
  const { code, output } = runModule();
  expect(code).toBe(1);
  expect(output).toMatch(/^fatal: bootc: \S+keys\.d\/x\.pub is neither a file nor a directory: /);
});

test("bootc_program=addon leaves the program out, and a link to where an addon puts it", () => {
  expect(runModule({ bootc_program: "addon" })).toEqual({ code: 0, output: "" });
  const sum = createHash("sha256").update("the program").digest("hex");
  expect(readlinkSync(made("usr/lib/bootc/prepare-root"))).toBe(`runtime/${sum}/prepare-root`);
  expect(readdirSync(made("usr/bin"))).toEqual([]);
  expect(readFileSync(made("usr/lib/libprogram.so"), "utf8")).toBe("its library");
});

test("its libraries are not where they should be: dracut ends", () => {
  rmSync(image("usr/lib/libprogram.so"));
  const { code, output } = runModule({ bootc_program: "addon" });
  expect(code).toBe(1);
  expect(output).toContain("cannot be put into the initramfs");
});

test("another word for it is told", () => {
  const { code, output } = runModule({ bootc_program: "both" });
  expect(code).toBe(1);
  expect(output).toContain('bootc_program="both" in dracut.conf.d is neither initramfs nor addon');
});
