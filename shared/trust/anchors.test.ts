import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDirectory } from "../sys/directory.ts";
import { openTrustDirectory, openTrustFolder, readTrustAnchors } from "./anchors.ts";

const KEY = Buffer.alloc(32, 9).toString("base64");

let root: string;
const at = (name: string) => join(root, "usr/lib/bootc/trust", name);
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "trust-"));
  for (const name of ["keys.d", "revoked.d"]) mkdirSync(at(name), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function read() {
  using folder = openTrustFolder(at("."));
  return readTrustAnchors(folder);
}

test("no directory means no keys", () => {
  expect(openTrustFolder(at("missing"))).toBeNull();
  using directory = openDirectory(null, at("keys.d"));
  expect(openTrustDirectory(directory)).toBeNull();
  expect(readTrustAnchors(null)).toMatchObject({ keys: [], signed: false, counter: "auto" });
  expect(read()).toMatchObject({ keys: [], signed: false });
});

test("keys, revocations and settings", () => {
  writeFileSync(at("keys.d/vendor.pub"), `${KEY}\n`);
  writeFileSync(at("keys.d/README"), "not a key");
  writeFileSync(at("keys.d/.vendor.pub.swp"), "not a key");
  writeFileSync(at("revoked.d/2026"), `digest ${"ab".repeat(64)}\n`);
  writeFileSync(at("trust.conf"), "[image]\ncounter=esp\n");
  const { counter, keys, revokedDigests, signed } = read();
  expect(keys.map(({ name }) => name)).toEqual(["vendor.pub"]);
  expect([signed, counter, [...revokedDigests]]).toEqual([true, "esp", ["ab".repeat(64)]]);
});

test.each([
  ["a link", () => symlinkSync("/etc/hostname", at("keys.d/x.pub")), "it is a link"],
  ["a directory", () => mkdirSync(at("keys.d/x.pub")), "is not a regular file"],
  ["a link under another name", () => symlinkSync("x", at("keys.d/README")), "it is a link"],
  ["a directory beside", () => mkdirSync(at("keys.d/old")), "is not a regular file"],
  ["a name that is no text", () => putNoise(), "its name is not UTF-8"],
  ["a FIFO", () => execFileSync("mkfifo", [at("trust.conf")]), "is not a regular file"],
  ["no text", () => writeFileSync(at("trust.conf"), Buffer.from([0xff, 0xfe])), "is not UTF-8"],
  ["no directory", () => replaceByFile("revoked.d"), "it is not a directory"],
  ["too much", () => writeFileSync(at("revoked.d/x"), "#".repeat(2 << 20)), "is larger than"],
  ["too many", () => putMany(), "more than 256 files"],
])("%s where a file belongs is an error", (_, put, message) => {
  put();
  expect(read).toThrow(message);
});

function replaceByFile(name: string): void {
  rmSync(at(name), { recursive: true });
  writeFileSync(at(name), "");
}

function putNoise(): void {
  writeFileSync(Buffer.concat([Buffer.from(at("revoked.d/")), Buffer.from([0xff])]), "");
}

function putMany(): void {
  for (let i = 0; i < 257; i++) writeFileSync(at(`revoked.d/${i}`), "");
}
