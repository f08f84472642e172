// Images that cannot be pulled or booted: each is refused for its own reason, and nothing is left that
// anything refers to.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { listRefs } from "../../shared/store/refs.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { blobFile, writeLayout } from "../support/oci-builder.ts";
import { layout, pull, repo, scratch, usePullCase } from "../support/pull-case.ts";
import { findDamage, listObjects, streamNames } from "../support/repository-listing.ts";
import { dir, type Entry, file, makeOs, makeTar } from "../support/small-os.ts";
import { paxMember, TAR_END, tarMember } from "../support/tar-builder.ts";

usePullCase();

describe("bad images leave no streams", () => {
  const expectNothingLeft = (): void => {
    expect(streamNames(repo)).toEqual([]);
    expect(listRefs(repo, "streams")).toEqual([]);
    expect(findDamage(repo)).toEqual([]);
    collectGarbage(repo, { roots: [], dryRun: false });
    expect(listObjects(repo)).toEqual([]);
  };

  test.each<[string, (path: string, size: number) => void, string, RegExp]>([
    [
      "a layer is missing",
      (path) => unlinkSync(path),
      "missing-object",
      /is missing from the directory/,
    ],
    [
      "a layer is truncated",
      (path, size) => truncateSync(path, size - 1),
      "size-mismatch",
      /bytes instead of/,
    ],
    [
      "a layer is corrupt",
      (path, size) => {
        const bytes = readFileSync(path);
        bytes.fill(0x55, size - 200, size - 150);
        writeFileSync(path, bytes);
      },
      "digest-mismatch",
      /is corrupt/,
    ],
  ])("%s", async (_name, damage, code, message) => {
    const os = await makeOs();
    const noise = createHash("shake256", { outputLength: 3_000_000 }).update("seed").digest();
    const [built] = writeLayout(layout, [
      { ...os, layers: [...os.layers, { tar: await makeTar([file("noise", noise)]) }] },
    ]);
    const last = built!.layers.at(-1)!;
    damage(blobFile(layout, last.digest), last.size);
    const error = await pull().catch((e: unknown) => e);
    expect(error).toMatchObject({ kind: "integrity", code });
    expect((error as Error).message).toMatch(message);
    expectNothingLeft();
  });

  const good = tarMember({ name: "usr", type: "5" });
  test.each<[string, Buffer, RegExp]>([
    [
      "path escape",
      Buffer.concat([good, tarMember({ name: "../evil", content: "x" }), TAR_END]),
      /Layer .* cannot be read.*contains "\.\."/,
    ],
    [
      "hard link escape",
      Buffer.concat([good, tarMember({ name: "l", type: "1", linkName: "../../etc/shadow" })]),
      /contains "\.\."/,
    ],
    [
      "whiteout escape",
      Buffer.concat([tarMember({ name: "a/../../.wh.etc" }), TAR_END]),
      /contains "\.\."/,
    ],
    [
      "truncated tar",
      Buffer.concat([
        good,
        tarMember({ name: "f", content: Buffer.alloc(100_000) }).subarray(0, 50_000),
      ]),
      /ends in the middle/,
    ],
    [
      "malformed PAX",
      Buffer.concat([tarMember({ name: "x", type: "x", content: "3 a" }), good]),
      /malformed record/,
    ],
    [
      "huge PAX header",
      tarMember({ name: "x", type: "x", sizeBytes: 2 ** 33 - 1 }),
      /extension headers/,
    ],
    ["sparse file", Buffer.concat([paxMember([["GNU.sparse.major", "1"]]), good]), /sparse/],
    ["no tar at all", Buffer.alloc(2048, "nonsense"), /octal|checksum/],
  ])("%s", async (_name, tar, message) => {
    const os = await makeOs();
    writeLayout(layout, [{ layers: [...os.layers, { tar }] }]);
    const error = await pull().catch((e: unknown) => e);
    expect(error).toMatchObject({ kind: "format", context: { format: "tar" } });
    const { message: outer, cause } = error as Error;
    expect(`${outer}: ${(cause as Error).message}`).toMatch(message);
    expectNothingLeft();
  });

  test("the tar is not the promised one", async () => {
    const tar = Buffer.concat([good, TAR_END]);
    const other = Buffer.concat([good, Buffer.alloc(2048)]);
    writeLayout(layout, [{ layers: [{ tar, diffId: computeDigest(other) }] }]);
    await expect(pull()).rejects.toMatchObject({ kind: "integrity", code: "digest-mismatch" });
    expectNothingLeft();
  });

  test("a layer that is compressed wrongly", async () => {
    const blob = Buffer.concat([Buffer.from("1f8b0800", "hex"), Buffer.alloc(500, 0xee)]);
    writeLayout(layout, [{ layers: [{ tar: TAR_END, blob }] }]);
    await expect(pull()).rejects.toThrow(/is not valid gzip data/);
    expectNothingLeft();
  });

  test.each<[string, Entry[], RegExp]>([
    ["no kernel", [dir("usr"), dir("boot"), dir("sysroot")], /has no kernel/],
    ["no /usr", [dir("boot")], /no directory "\/usr"/],
    [
      "a symlink in the way",
      [dir("usr"), [{ name: "lib", type: "symlink", linkname: "/etc" }], file("lib/x")],
      /"\/lib" is a symlink/,
    ],
    ["no parent directory", [file("usr/bin/x")], /"\/usr" does not exist/],
  ])("an image that cannot boot: %s", async (_name, entries, message) => {
    writeLayout(layout, [{ layers: [{ tar: await makeTar(entries) }] }]);
    const pulled = await pull();
    const error = (await makeBootImage(repo, pulled).catch((e: unknown) => e)) as Error;
    expect(`${error.message}: ${(error.cause as Error | undefined)?.message}`).toMatch(message);
    expect(listRefs(repo, "streams")).toEqual([]);
    collectGarbage(repo, { roots: [], dryRun: false });
    expectNothingLeft();
  });
});

test("a full disk is said to be full, and nothing is left", async () => {
  const disk = join(scratch, "disk");
  mkdirSync(disk);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]);
  try {
    using small = ensureRepository(null, join(disk, "repo"), {
      algorithm: "sha512",
      secure: false,
    });
    writeLayout(layout, [await makeOs()]);
    const source = openSource(makeImageReference("oci", layout));
    const error = (await pullImage(small, source).catch((e: unknown) => e)) as Error;
    expect(error).toMatchObject({ kind: "state", code: "no-space" });
    expect(describeError(error)).toMatch(
      /^No space left for the repository .*No space left on device$/,
    );
    expect(existsSync(join(disk, "repo/streams"))).toBe(false);
  } finally {
    execFileSync("umount", [disk]);
  }
});
