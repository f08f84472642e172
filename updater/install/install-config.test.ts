import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { rustArchitecture } from "../../shared/format/kargs/kargs-d.ts";
import { readInstallConfig } from "./install-config.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "install-config-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), text);
}
const set = (value: boolean) => `[install]\nenforce-container-sigpolicy = ${value}\n`;
const block = ["direct"];

test.each<[string, Readonly<Record<string, string>>, object | null]>([
  ["nothing", {}, null],
  ["files that say nothing", { "usr/lib/bootc/install/00.toml": "" }, null],
  [
    "set",
    { "usr/lib/bootc/install/00.toml": set(true) },
    { block, "enforce-container-sigpolicy": true },
  ],
  [
    "the later name counts",
    { "etc/bootc/install/00.toml": set(true), "usr/lib/bootc/install/10.toml": set(false) },
    { block, "enforce-container-sigpolicy": false },
  ],
  [
    "a later file without the key changes nothing",
    { "usr/lib/bootc/install/00.toml": set(true), "etc/bootc/install/10.toml": "[install]\n" },
    { block, "enforce-container-sigpolicy": true },
  ],
  [
    "a file hides one of the same name in an earlier place",
    { "usr/lib/bootc/install/00.toml": set(true), "run/bootc/install/00.toml": "" },
    null,
  ],
  [
    "other architectures",
    {
      "usr/lib/bootc/install/00.toml":
        '[install]\nmatch-architectures = ["vax"]\nenforce-container-sigpolicy = true\n',
    },
    null,
  ],
  [
    "this architecture, among others",
    {
      "usr/lib/bootc/install/00.toml": `[install]\nmatch-architectures = ["vax", "${rustArchitecture(process.arch)}"]\nstateroot = "a"\n`,
      "usr/lib/bootc/install/10.toml": `[install]\nmatch-architectures = ["${rustArchitecture(process.arch)}"]\nblock = []\n`,
    },
    {
      block: [],
      stateroot: "a",
      "match-architectures": ["vax", rustArchitecture(process.arch)],
    },
  ],
  ["other files", { "usr/lib/bootc/install/00.conf": "x" }, null],
  [
    "lists of arguments are joined, other lists are not",
    {
      "usr/lib/bootc/install/00.toml":
        '[install]\nkargs = ["a", "b=1 c"]\nkarg-deletes = ["x"]\nblock = ["direct"]\n',
      "usr/lib/bootc/install/10.toml":
        '[install]\nkargs = ["a"]\nkarg-deletes = ["y"]\nblock = ["tpm2-luks"]\n',
    },
    { kargs: ["a", "b=1 c", "a"], "karg-deletes": ["x", "y"], block: ["tpm2-luks"] },
  ],
  [
    "tables are merged, and the file system has two spellings, of which the newer counts",
    {
      "usr/lib/bootc/install/00.toml":
        '[install]\nroot-fs-type = "ext4"\n[install.filesystem.root]\ntype = "xfs"\n[install.bootupd]\nskip-boot-uuid = true\n[install.ostree]\nbls-append-except-default = "x=1"\n',
      "usr/lib/bootc/install/10.toml":
        "[install.filesystem.root]\n[install.bootupd]\n[install.ostree]\n",
    },
    {
      block,
      "root-fs-type": "xfs",
      filesystem: { root: { type: "xfs" } },
      bootupd: { "skip-boot-uuid": true },
      ostree: { "bls-append-except-default": "x=1" },
    },
  ],
  [
    "the older spelling alone",
    { "usr/lib/bootc/install/00.toml": '[install]\nroot-fs-type = "btrfs"\n' },
    { block, "root-fs-type": "btrfs", filesystem: { root: { type: "btrfs" } } },
  ],
])("%s", (_, files, expected) => {
  for (const [path, text] of Object.entries(files)) put(path, text);
  expect(readInstallConfig(root)).toEqual(expected);
});

test.each([
  ["no TOML", "[install", "cannot be read"],
  ["no boolean", '[install]\nenforce-container-sigpolicy = "yes"\n', "install.enforce-container"],
  ["an unknown key", "[install]\nkarg = []\n", /00\.toml" is wrong at "install": .*karg/],
  ["an unknown table", "[instal]\n", /is wrong at "": .*instal/],
  ["an unknown key within", "[install.bootupd]\nuuid = 1\n", /"install\.bootupd": .*uuid/],
  ["another file system", '[install]\nroot-fs-type = "reiserfs"\n', /install\.root-fs-type/],
  ["kargs that are no list", '[install]\nkargs = "a"\n', /install\.kargs/],
])("refused: %s", (_, text, message) => {
  put("etc/bootc/install/00.toml", text);
  expect(() => readInstallConfig(root)).toThrow(message);
});
