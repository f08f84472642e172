import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { findFixedDefault } from "./loader-default.ts";
import type { System } from "./system.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "default-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function find(variable: string | null, conf: string | null, loader: "systemd" | "grub-cc") {
  const variables = join(directory, "firmware/efi/efivars");
  mkdirSync(variables, { recursive: true });
  mkdirSync(join(directory, "loader"), { recursive: true });
  if (variable !== null) {
    const name = "LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    const text = Buffer.from(`${variable}\0`, "utf16le");
    writeFileSync(join(variables, name), Buffer.concat([Buffer.alloc(4), text]));
  }
  if (conf !== null) writeFileSync(join(directory, "loader/loader.conf"), conf);
  const boot = borrowBootDirectory(directory, makeEspLayout(loader, directory));
  return findFixedDefault({ sysfs: directory } as System, boot);
}

test.each([
  ["nothing", null, null],
  ["a time only", null, "timeout 5\n#default x.conf\n"],
  ["patterns", "bootc_*", "default bootc_*\n"],
  ["an empty variable", "", "timeout 5\n"],
])("%s is fine", (_, variable, conf) => expect(find(variable, conf, "systemd")).toEqual([]));

test.each([
  ["the variable", "bootc_x-1-1.conf", null, /"bootc_x-1-1.conf".*bootctl set-default/],
  ["loader.conf", null, "timeout 5\n default bootc_x-1-1.conf\n", /take "default" out/],
  ["the last one chosen", null, "default @saved\n", /"@saved"/],
])("%s fixes it", (_, variable, conf, message) => {
  expect(find(variable, conf, "systemd")).toEqual([expect.stringMatching(message)]);
  expect(find(variable, conf, "grub-cc")).toEqual([]);
});

test("a loader.conf that is no file says nothing", () => {
  mkdirSync(join(directory, "loader/loader.conf"), { recursive: true });
  expect(find(null, null, "systemd")).toEqual([]);
});
