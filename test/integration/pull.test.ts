// From an OCI directory to a boot image in a scratch repository (without fs-verity).

import { execFileSync } from "node:child_process";
import { readFileSync, readlinkSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { readErofs } from "../../shared/format/erofs/reader.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { readObject } from "../../shared/store/objects.ts";
import { listRefs, removeRef } from "../../shared/store/refs.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { openFileContent } from "../../updater/image/file-content.ts";
import type { PullProgress } from "../../updater/image/pull-progress.ts";
import { lookupFile } from "../../updater/image/tree-lookup.ts";
import { type BuiltImage, blobFile, writeLayout } from "../support/oci-builder.ts";
import { layout, pull, repo, usePullCase } from "../support/pull-case.ts";
import { findDamage, namedRefs, rebuildTar, streamNames } from "../support/repository-listing.ts";
import { makeOs, SMALL_KERNEL } from "../support/small-os.ts";
import { listTree } from "../support/tree-listing.ts";

const LIMIT = 64 << 20;
usePullCase();

describe("a good image", () => {
  let built: BuiltImage;
  beforeEach(async () => {
    [built] = writeLayout(layout, [await makeOs()]) as [BuiltImage];
  });

  test("becomes layers, config and manifest streams that reproduce every byte", async () => {
    const reports: PullProgress[] = [];
    const pulled = await pull({ onProgress: (progress) => reports.push(progress) });
    expect(pulled).toMatchObject({
      manifestDigest: built.manifest.digest,
      configDigest: built.config.digest,
    });
    const diffIds = built.layers.map(({ diffId }) => diffId);
    expect(streamNames(repo)).toEqual(
      [
        `oci-config-${built.config.digest}`,
        `oci-manifest-${built.manifest.digest}`,
        ...diffIds.map((id) => `oci-layer-${id}`),
      ].sort(),
    );
    for (const diffId of diffIds)
      expect(computeDigest(await rebuildTar(repo, diffId))).toBe(diffId);
    const layerRefs = diffIds.map((id) => [id, streamObject(repo, `oci-layer-${id}`)]);
    expect(Object.fromEntries(namedRefs(repo, `oci-config-${built.config.digest}`))).toEqual(
      Object.fromEntries(layerRefs),
    );
    expect(Object.fromEntries(namedRefs(repo, `oci-manifest-${built.manifest.digest}`))).toEqual(
      Object.fromEntries([
        [`config:${built.config.digest}`, streamObject(repo, `oci-config-${built.config.digest}`)],
        ...layerRefs,
      ]),
    );
    const total = built.layers.reduce((sum, { size }) => sum + size, 0);
    const layersAt = (part: number) =>
      built.layers.map(({ digest, size }) => ({
        ...{ digest, bytes: part * size, bytesTotal: size, bytesCached: 0 },
      }));
    expect(reports[0]).toEqual({
      bytes: 0,
      bytesTotal: total,
      bytesCached: 0,
      layersDone: 0,
      layersTotal: 3,
      layersCached: 0,
      layers: layersAt(0),
    });
    expect(reports.at(-1)).toEqual({
      bytes: total,
      bytesTotal: total,
      bytesCached: 0,
      layersDone: 3,
      layersTotal: 3,
      layersCached: 0,
      layers: layersAt(1),
    });
    expect(reports.map(({ bytes }) => bytes)).toEqual(
      reports.map(({ bytes }) => bytes).sort((a, b) => a - b),
    );
    expect(findDamage(repo)).toEqual([]);
  });

  test("becomes a boot image", async () => {
    const boot = await makeBootImage(repo, await pull());
    expect(boot.osRelease.get("PRETTY_NAME")).toBe("Debian 13");
    expect(boot.kargsD.map(({ text }) => text)).toEqual(["console=ttyS0", "quiet"]);
    expect(boot.kernel).toMatchObject({ kind: "bls", version: "6.12" });
    const vmlinuz = boot.kernel.kind === "bls" ? boot.kernel.vmlinuz : null;
    const content = [...openFileContent(repo, vmlinuz!)].map((piece) => Buffer.from(piece));
    expect(Buffer.concat(content).equals(SMALL_KERNEL)).toBe(true);
    expect(listTree(boot.tree)).toEqual([
      "/boot dir",
      "/etc dir",
      `/etc/new 65 bytes`,
      '/etc/small "etc/small"',
      "/run dir",
      "/sysroot dir",
      "/usr dir",
      "/usr/bin dir",
      '/usr/bin/cap "c"',
      "/usr/bin/soft -> tool",
      "/usr/bin/tool 5000 bytes =1",
      "/usr/bin/tool2 5000 bytes =1",
      "/usr/lib dir",
      "/usr/lib/bootc dir",
      "/usr/lib/bootc/kargs.d dir",
      '/usr/lib/bootc/kargs.d/10-a.toml "kargs = ["console=ttyS0 quiet"]\n"',
      '/usr/lib/bootc/kargs.d/20-b.toml "kargs = ["b"]\nmatch-architectures = ["nothing"]\n"',
      "/usr/lib/modules dir",
      "/usr/lib/modules/6.12 dir",
      "/usr/lib/modules/6.12/initramfs.img 2500000 bytes",
      "/usr/lib/modules/6.12/vmlinuz 300000 bytes",
      '/usr/lib/os-release "ID=debian\nPRETTY_NAME="Debian 13"\n"',
    ]);
    expect([...lookupFile(boot.tree, "usr/bin/cap")!.xattrs.keys()]).toEqual([
      "security.capability",
    ]);

    const image = readFileSync(join(repo.path, "images", boot.deploymentId));
    expect(computeVerityDigest(image, "sha512")).toBe(boot.deploymentId);
    const { version, root } = readErofs(image);
    expect(version).toBe(1);
    expect(listTree(root)).toEqual(listTree(boot.tree));
    expect(lookupFile(root, "usr/bin/tool")!.nlink).toBe(2);

    const refs = namedRefs(repo, `oci-config-${built.config.digest}`);
    expect(refs.get("composefs.image.boot.v1")).toBe(boot.deploymentId);
    const plain = readErofs(
      readFileSync(join(repo.path, "images", refs.get("composefs.image.v1")!)),
    );
    expect(lookupFile(plain.root, "boot/stray")).not.toBeNull();
    expect(
      namedRefs(repo, `oci-manifest-${built.manifest.digest}`).get(`config:${built.config.digest}`),
    ).toBe(streamObject(repo, `oci-config-${built.config.digest}`));
    const tag = `oci/localhost%2Fbootc-${built.manifest.digest}`;
    expect(listRefs(repo, "streams")).toEqual([
      { name: tag, target: `oci-manifest-${built.manifest.digest}` },
    ]);
    expect(readlinkSync(join(repo.path, "streams/refs", tag))).toBe(
      `../../oci-manifest-${built.manifest.digest}`,
    );
    expect(findDamage(repo)).toEqual([]);
  });

  test("has the same deployment id again, and survives garbage collection while tagged", async () => {
    const first = await makeBootImage(repo, await pull());
    collectGarbage(repo, { roots: [first.deploymentId], dryRun: false });
    const second = await makeBootImage(repo, await pull());
    expect(second.deploymentId).toBe(first.deploymentId);
    expect(collectGarbage(repo, { roots: [first.deploymentId], dryRun: true })).toMatchObject({
      objectsRemoved: 0,
    });
    removeRef(repo, "streams", `oci/localhost%2Fbootc-${built.manifest.digest}`);
    collectGarbage(repo, { roots: [], dryRun: false });
    expect(streamNames(repo)).toEqual([]);
  });

  test("is not fetched twice, not even its layers are needed", async () => {
    await makeBootImage(repo, await pull());
    const refs = namedRefs(repo, `oci-config-${built.config.digest}`);
    for (const { digest } of built.layers) unlinkSync(blobFile(layout, digest));
    const reports: PullProgress[] = [];
    await pull({ onProgress: (progress) => reports.push(progress) });
    expect(reports).toEqual([
      expect.objectContaining({ bytesTotal: 0, layersTotal: 0, layersCached: 3 }),
    ]);
    // The references to images stay.
    expect(namedRefs(repo, `oci-config-${built.config.digest}`)).toEqual(refs);
  });

  test("a layer that lost an object or is damaged is fetched again", async () => {
    await pull();
    const name = `oci-layer-${built.layers[1]!.diffId}`;
    const stream = streamObject(repo, name)!;
    const [object] = readSplitStreamRefs(readObject(repo, stream, LIMIT)).objectRefs;
    const pathOf = (digest: string): string =>
      join(repo.path, "objects", digest.slice(0, 2), digest.slice(2));
    unlinkSync(pathOf(object!));
    await pull();
    expect(statSync(pathOf(object!)).size).toBeGreaterThan(0);
    writeFileSync(pathOf(stream), "damaged");
    const reports: PullProgress[] = [];
    await pull({ onProgress: (progress) => reports.push(progress) });
    expect(reports[0]).toMatchObject({ layersTotal: 1, layersCached: 2 });
    expect(findDamage(repo)).toEqual([]);
  });

  test("can be given up", async () => {
    const controller = new AbortController();
    const pulling = pull({
      signal: controller.signal,
      onProgress: ({ bytes }) => {
        if (bytes > 0) controller.abort(new Error("interrupted"));
      },
    });
    await expect(pulling).rejects.toThrow("interrupted");
    expect(streamNames(repo)).toEqual([]);
    expect(findDamage(repo)).toEqual([]);
  });
});

test("a real directory, packed by GNU tar, is reproduced bit for bit", async () => {
  const tars = ["pax", "gnu", "oldgnu"].map((format) =>
    execFileSync("tar", [`--format=${format}`, "-cf", "-", "-C", "/etc", "."], {
      maxBuffer: 1 << 30,
      stdio: ["ignore", "pipe", "ignore"],
    }),
  );
  writeLayout(layout, [{ layers: tars.map((tar) => ({ tar, compression: "zstd" })) }]);
  const { config } = await pull();
  for (const [i, diffId] of config.rootfs.diff_ids.entries()) {
    expect((await rebuildTar(repo, diffId)).equals(tars[i]!)).toBe(true);
  }
});
