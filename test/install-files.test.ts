// scripts/install-files.ts against a scratch image root.

import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { installFiles } from "../scripts/install-files.ts";
import { ROOT } from "./support/source-tree.ts";

let scratch: string;
let root: string;
let exe: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "install-files-"));
  root = join(scratch, "root");
  exe = join(scratch, "exe");
  mkdirSync(root);
  writeFileSync(exe, "the program\n");
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

/** Every file and symlink below a folder, sorted, with mode or target. */
function describeTree(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((path) => {
      const stat = lstatSync(join(folder, path));
      if (stat.isSymbolicLink()) return `${path} -> ${readlinkSync(join(folder, path))}`;
      return stat.isDirectory() ? `${path}/` : `${path} ${(stat.mode & 0o777).toString(8)}`;
    })
    .sort();
}

test("installFiles puts every name of the program, the dracut module and the units in place", () => {
  installFiles(root, exe);
  for (const name of [
    "usr/bin/bootc",
    "usr/lib/bootc/prepare-root",
    "usr/lib/bootc/initramfs-setup",
    "usr/lib/bootc/ostree-prepare-root",
  ])
    expect(readFileSync(join(root, name), "utf8")).toBe("the program\n");
  expect(describeTree(root)).toEqual(
    expect.arrayContaining([
      "usr/bin/bootc 755",
      "usr/lib/dracut/dracut.conf.d/60-bootc-ts.conf 644",
      "usr/lib/dracut/modules.d/51bootc/module-setup.sh 755",
      "usr/lib/dracut/modules.d/51bootc/prepare-root.service 644",
      "usr/lib/systemd/system/multi-user.target.wants/bootc-finalize-staged.service -> ../bootc-finalize-staged.service",
      "usr/lib/systemd/system/systemd-journal-flush.service.d/10-bootc.conf 644",
      "usr/lib/systemd/system/systemd-remount-fs.service.d/90-bootc.conf 644",
    ]),
  );
});

test("installFiles leaves nothing of dracut-module/ and systemd/ out", () => {
  installFiles(root, exe);
  const installed = describeTree(root)
    .filter((line) => /\d$/.test(line))
    .map((line) => readFileSync(join(root, line.split(" ")[0]!), "utf8"));
  for (const folder of ["dracut-module", "systemd"]) {
    for (const path of readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })) {
      const source = join(ROOT, folder, path);
      if (statSync(source).isFile())
        expect(installed, path).toContain(readFileSync(source, "utf8"));
    }
  }
});

test("every symlink leads to something, and every program a unit starts is installed", () => {
  installFiles(root, exe);
  const paths = describeTree(root).map((line) => line.split(" ")[0]!);
  for (const path of paths) expect(existsSync(join(root, path)), path).toBe(true);
  const units = paths.filter((path) => path.endsWith(".service"));
  const programs = units
    .flatMap((path) => [...readFileSync(join(root, path), "utf8").matchAll(/^Exec\w+=(\S+)/gm)])
    .map(([, program]) => program!)
    // The rest is the system's; prepare-root-failed exists in the initramfs only.
    .filter((program) => program.includes("bootc") && !program.endsWith("prepare-root-failed"));
  expect(programs.length).toBeGreaterThan(2);
  for (const program of programs) expect(existsSync(join(root, program)), program).toBe(true);
});

test("installFiles again gives the same tree, and replaces what a name stood for before", () => {
  installFiles(root, exe);
  const first = describeTree(root);
  writeFileSync(exe, "a newer program\n");
  rmSync(join(root, "usr/bin/bootc"));
  writeFileSync(join(scratch, "other"), "somebody else's file\n");
  symlinkSync(join(scratch, "other"), join(root, "usr/bin/bootc"));
  installFiles(root, exe);
  expect(describeTree(root)).toEqual(first);
  expect(readFileSync(join(root, "usr/lib/bootc/prepare-root"), "utf8")).toBe("a newer program\n");
  expect(readFileSync(join(scratch, "other"), "utf8")).toBe("somebody else's file\n");
});

test.each([
  ["root", "there is no such directory"],
  ["exe", 'build it with "npm run build"'],
])("installFiles refuses a missing %s", (name, message) => {
  rmSync(join(scratch, name), { recursive: true });
  expect(() => installFiles(root, exe)).toThrow(message);
});
