// Sealing that is interrupted: it ends, and nothing of it stays. What it makes is in test/integration/container-seal.test.ts.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ensureRepository } from "../../shared/store/repository.ts";
import { writeScratchImage } from "../../test/support/scratch-image.ts";
import { makeImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { LayoutWriter } from "./layout-writer.ts";
import { addLayer } from "./seal.ts";
import { makeMembers } from "./seal-layer.ts";

const scratch = mkdtempSync(join(tmpdir(), "seal-"));
afterAll(() => rmSync(scratch, { recursive: true }));
const at = (name: string) => join(scratch, name);

test("an interruption while the layer is written", async () => {
  writeScratchImage(at("os.oci"), { version: "1" });
  await using source = openSource(makeImageReference("oci", at("os.oci")));
  const image = await source.resolve();
  const config = { algorithm: "sha512", secure: false } as const;
  using repo = ensureRepository(null, at("repo"), config);
  const stopped = new Error("stopped");
  writeFileSync(at("kernel"), "kernel");
  const time = { mtimeSec: 0, mtimeNsec: 0, uid: 0, gid: 0, mode: 0o755, xattrs: new Map() };
  const usr = { kind: "directory", ...time, entries: new Map() } as const;
  const root = { ...usr, entries: new Map([["usr", usr]]) };
  const files = [{ path: "boot/os.efi", file: at("kernel") }];
  const members = makeMembers(root, { hidden: [], files });
  {
    using layout = new LayoutWriter(at("sealed"));
    const place = { repo, directory: scratch, layout, signal: AbortSignal.abort(stopped) };
    await expect(addLayer(place, image, members, null)).rejects.toBe(stopped);
  }
  expect(readdirSync(scratch)).not.toContain("sealed");
});

test.each([
  ["a directory of something else", (path: string) => writeFileSync(join(path, "notes"), "")],
  ["with an index, and no mark", (path: string) => writeFileSync(join(path, "index.json"), "{}")],
])("%s does not become an OCI directory", (_, fill) => {
  const path = mkdtempSync(at("taken-"));
  fill(path);
  const before = readdirSync(path);
  expect(() => new LayoutWriter(path)).toThrow("is not an OCI image directory, and not empty");
  expect(readdirSync(path)).toEqual(before);
});

test("a file does not, either", () => {
  writeFileSync(at("file"), "");
  expect(() => new LayoutWriter(at("file"))).toThrow(/"[^"]*file" cannot be an OCI directory/);
  expect(() => new LayoutWriter("/proc/x")).toThrow('Cannot make the OCI directory "/proc/x"');
});
