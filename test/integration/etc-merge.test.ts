// What is mounted below /etc is not part of it (a resolv.conf bind-mounted from /run, systemd's
// transient machine-id): the merge sees the files underneath. Needs root, in an own mount namespace.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { MNT, MS } from "../../shared/sys/constants.ts";
import { mount, umount2, unshareMounts } from "../../shared/sys/mount.ts";
import { mergeEtc } from "../../updater/deploy/etc-merge.ts";
import { makeDirectory, readBack } from "../support/etc-directories.ts";

const scratch = mkdtempSync(join(tmpdir(), "etc-mounts-"));
const path = (name: string) => join(scratch, name);

beforeAll(() => unshareMounts());
afterAll(() => {
  umount2(path("etc"), MNT.DETACH);
  rmSync(scratch, { recursive: true });
});

test("files and directories under mounts are merged, not what is mounted", () => {
  makeDirectory(path("pristine"), { "machine-id": "uninitialized", "d/f": "1" });
  makeDirectory(path("state"), { "machine-id": "uninitialized", "d/f": "1", "d/mine": "m" });
  makeDirectory(path("next"), { "machine-id": "uninitialized", "d/f": "2" });
  writeFileSync(path("transient-id"), "0123456789abcdef");
  mkdirSync(path("etc"));
  // As on a booted machine: /etc itself is a mount, with more mounts in it.
  mount(path("state"), path("etc"), null, MS.BIND, null);
  mount(path("transient-id"), path("etc/machine-id"), null, MS.BIND, null);
  mount("tmpfs", path("etc/d"), "tmpfs", 0, null);
  writeFileSync(path("etc/d/runtime"), "x");
  expect(readFileSync(path("etc/machine-id"), "utf8")).toBe("0123456789abcdef");

  const diff = mergeEtc(path("pristine"), path("etc"), path("next"), path("out"));
  expect(diff).toEqual({
    added: ["d/mine"],
    modified: [],
    removed: [],
    dropped: [],
    held: [],
    conflicts: [],
  });
  expect(readBack(path("out"))).toEqual({
    ...{ "machine-id": "uninitialized", "d/": "", "d/f": "2", "d/mine": "m" },
  });
});
