import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
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

test.each<[string, Readonly<Record<string, string>>, boolean]>([
  ["nothing", {}, false],
  ["set", { "usr/lib/bootc/install/00.toml": set(true) }, true],
  [
    "other keys only",
    { "usr/lib/bootc/install/00.toml": '[install]\nblock = ["direct"]\n' },
    false,
  ],
  [
    "the later name counts",
    { "etc/bootc/install/00.toml": set(true), "usr/lib/bootc/install/10.toml": set(false) },
    false,
  ],
  [
    "a later file without the key changes nothing",
    { "usr/lib/bootc/install/00.toml": set(true), "etc/bootc/install/10.toml": "[install]\n" },
    true,
  ],
  [
    "a file hides one of the same name in an earlier place",
    { "usr/lib/bootc/install/00.toml": set(true), "run/bootc/install/00.toml": "" },
    false,
  ],
  [
    "other architectures",
    {
      "usr/lib/bootc/install/00.toml":
        '[install]\nmatch-architectures = ["vax"]\nenforce-container-sigpolicy = true\n',
    },
    false,
  ],
  ["other files", { "usr/lib/bootc/install/00.conf": "x" }, false],
])("%s", (_, files, expected) => {
  for (const [path, text] of Object.entries(files)) put(path, text);
  expect(readInstallConfig(root)).toEqual({ enforceContainerSigpolicy: expected });
});

test.each([
  ["no TOML", "[install", "cannot be read"],
  ["no boolean", '[install]\nenforce-container-sigpolicy = "yes"\n', "install.enforce-container"],
])("refused: %s", (_, text, message) => {
  put("etc/bootc/install/00.toml", text);
  expect(() => readInstallConfig(root)).toThrow(message);
});
