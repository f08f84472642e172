// `upgrade --check` announces what an upgrade then takes; an upgrade for which there is no room is refused before
// anything of it was fetched or written.

import { execFileSync } from "node:child_process";
import { statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { storeObject } from "../../shared/store/objects.ts";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { describeCheck, describePull } from "../../updater/cli/pull-text.ts";
import { type UpdateObserver, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import {
  FIRST,
  type Files,
  makeFilesTar,
  noise,
  SECOND,
  scratch,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";
import { makeChunkedLayer } from "../support/chunked-layer.ts";
import type { BuiltImage, TestLayer } from "../support/oci-builder.ts";
import { type RangeServer, serveLayout } from "../support/range-server.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { openServed } from "../support/server-pull.ts";
import type { TarMember } from "../support/tar-builder.ts";

const quiet: UpdateObserver = { onProgress: () => {}, onStep: () => {} };
const KERNEL = "usr/lib/modules/6.1/vmlinuz";
const REST: readonly TarMember[] = [
  ...["boot/", "sysroot/", "run/", "etc/", "var/"].map((name) => ({
    name,
    type: "5",
    mode: 0o755,
  })),
  { name: "usr/lib/os-release", content: 'ID=fedora\nPRETTY_NAME="Fedora 1"\n' },
];
const makeTar = (files: Files) => makeFilesTar(files, REST);

useChunkedCase();

let machine: ScratchMachine;
let running: RunningMachine;
beforeEach(() => {
  machine = new ScratchMachine();
  mount("tmpfs", machine.esp, "tmpfs", 0, "size=8m");
});
afterEach(() => {
  running?.[Symbol.dispose]();
  umount2(machine.esp, MNT.DETACH);
  machine[Symbol.dispose]();
});

async function install(layers: readonly TestLayer[]): Promise<void> {
  await installScratch(machine, writeOne("installed", layers).path);
  running = machine.boot();
  // An installation leaves streams that were written twice.
  collectGarbage(running.repo, { roots: [running.booted.id], dryRun: false });
}

async function update(server: RangeServer, checkOnly = false) {
  await using source = openServed(server.reference, scratch);
  // Of a transport that needs no policy.json; where the bytes come from is the source.
  const reference = makeImageReference("oci", scratch);
  const request = { kind: "upgrade", reference, source, checkOnly } as const;
  const options = { downloadOnly: false, dryRun: false };
  return await updateImage(running, running.booted, { ...request, ...options }, quiet);
}

const serve = ({ path, built }: { path: string; built: BuiltImage }) =>
  serveLayout(path, built.manifest.digest);

/** Fills a file system up to so many bytes. */
function leaveFree(path: string, freeBytes: number): void {
  const { bavail, bsize } = statfsSync(path);
  writeFileSync(join(path, "filler"), Buffer.alloc(bavail * bsize - freeBytes));
}

/** Everything but the note that there is an update. */
function observe(): string {
  const places = [machine.disk, machine.esp, machine.run];
  const filter = ["-name", "cached-update.json", "-o", "-path", "*/state/bootc", "-o"];
  const print = ["-type", "f", "-printf", "%p %s\n", "-o", "-printf", "%p %y %l\n"];
  return execFileSync("find", [...places, ...filter, ...print], { encoding: "utf8" });
}

test("the check announces exactly what the upgrade fetches, and changes nothing", async () => {
  await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
  const image = writeOne("update", [makeChunkedLayer(makeTar(SECOND))]);
  await using server = await serve(image);
  const before = observe();
  const outcome = await update(server, true);
  expect(observe()).toBe(before);
  if (outcome.kind !== "available") throw new Error(outcome.kind);
  const json = describeCheck(outcome, makeImageReference("registry", "x")) as Record<
    string,
    unknown
  >;
  const fetchBytes = outcome.plan.fetchBytes + outcome.plan.planningBytes;
  const reusedBytes = image.built.layers[0]!.size - fetchBytes;
  expect(json).toMatchObject({
    ...{ kind: "available", manifestDigest: image.built.manifest.digest },
    ...{ fetchBytes, reusedBytes, writtenBytes: 77_300, newFiles: 3, isWrittenExact: true },
    layers: { cached: 0, partial: 1, pieces: 0, whole: 0 },
  });
  const [download, reused, written] = describePull(outcome.plan);
  expect(download).toMatch(new RegExp(`^Download: [0-9.]+ KiB \\(${fetchBytes} bytes\\)$`));
  expect(reused).toMatch(
    new RegExp(`^Reused: [0-9.]+ MiB \\(${reusedBytes} bytes\\) of .* are here`),
  );
  expect(written).toBe("Written: 75.5 KiB (77300 bytes) in 3 new files");

  const sent = server.sentBytes;
  expect((await update(server)).kind).toBe("staged");
  expect(server.sentBytes - sent - image.built.config.size).toBe(fetchBytes);
});

test("estimates are marked", async () => {
  await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
  await using server = await serve(
    writeOne("update", [{ tar: makeTar(SECOND), compression: "gzip" }]),
  );
  const outcome = await update(server, true);
  if (outcome.kind !== "available") throw new Error(outcome.kind);
  expect(describePull(outcome.plan)[2]).toMatch(
    /^Written: about 3\.[0-9] MiB .* in about \d+ new files, estimated: not all layers tell$/,
  );
});

describe("no room", () => {
  async function expectRefusal(image: ReturnType<typeof writeOne>, message: RegExp): Promise<void> {
    await using server = await serve(image);
    const before = observe();
    const error = await update(server).then(
      () => expect.unreachable(),
      (reason: unknown) => reason as Error,
    );
    expect(error).toMatchObject({ kind: "state", code: "no-space" });
    expect(describeError(error)).toMatch(message);
    expect(observe()).toBe(before);
    // The table of contents at most.
    const largest = Math.max(...image.built.layers.map(({ size }) => size));
    expect(server.sentBytes).toBeLessThan(largest / 10);
  }

  /** 20 MB that compress to nothing. */
  const LARGE: Files = { ...FIRST, "usr/large": Buffer.alloc(20_000_000, "large") };

  test("on the root disk, though the download is small", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    execFileSync("mount", ["-o", "remount,size=32m", machine.disk]);
    leaveFree(machine.disk, 18_000_000);
    await expectRefusal(
      writeOne("update", [makeChunkedLayer(makeTar(LARGE))]),
      /Insufficient free space for "docker:.*" in ".*disk" \(available: 1\d{7} bytes, required: 2\d{7} bytes\); free at least \d+ bytes and try again$/,
    );
  });

  test("and enough of it", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    execFileSync("mount", ["-o", "remount,size=48m", machine.disk]);
    leaveFree(machine.disk, 22_000_000);
    await using server = await serve(writeOne("update", [makeChunkedLayer(makeTar(LARGE))]));
    expect((await update(server)).kind).toBe("staged");
  });

  test("until what nothing uses is removed", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    execFileSync("mount", ["-o", "remount,size=48m", machine.disk]);
    for (let i = 0; i < 8; i++) storeObject(running.repo, noise(`unused ${i}`, 1_000_000));
    leaveFree(machine.disk, 18_000_000);
    await using server = await serve(writeOne("update", [makeChunkedLayer(makeTar(LARGE))]));
    expect((await update(server)).kind).toBe("staged");
  });

  test("for more files", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    const many = Array.from({ length: 500 }, (_, i) => [`usr/n${i}`, noise(`n${i}`, 100)]);
    const { files, ffree } = statfsSync(machine.disk);
    const inodes = files - ffree + 400;
    execFileSync("mount", ["-o", `remount,nr_inodes=${inodes}`, machine.disk]);
    await expectRefusal(
      writeOne("update", [makeChunkedLayer(makeTar({ ...FIRST, ...Object.fromEntries(many) }))]),
      /Insufficient free inodes for "docker:.*" in ".*disk" \(available: \d+, required: 501\); remove at least \d+ files/,
    );
  });

  test("on the boot partition, for a kernel that the table lists", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    leaveFree(machine.esp, 800_000);
    const files = { ...SECOND, [KERNEL]: noise("large kernel", 1_000_000) };
    await expectRefusal(
      writeOne("update", [makeChunkedLayer(makeTar(files))]),
      /Insufficient free space for the kernel and initramfs in ".*esp" \(available: \d+ bytes, required: 1323008 bytes\); free at least/,
    );
  });

  test("on the boot partition, for one like the booted kernel when nobody knows", async () => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    leaveFree(machine.esp, 400_000);
    await expectRefusal(
      writeOne("update", [{ tar: makeTar(SECOND), compression: "gzip" }]),
      /Insufficient free space for the kernel and initramfs in ".*esp" .* required: 524288 bytes, the size of those that are running\)/,
    );
  });

  test.each<[string, () => TestLayer[]]>([
    ["the table says that it is the same", () => [makeChunkedLayer(makeTar(SECOND))]],
    [
      "its layer is here",
      () => [
        { tar: makeTar(FIRST), compression: "gzip" },
        { tar: makeFilesTar({ "usr/new": noise("new", 9000) }), compression: "gzip" },
      ],
    ],
  ])("a full boot partition does not matter when %s", async (_, layers) => {
    await install([{ tar: makeTar(FIRST), compression: "gzip" }]);
    leaveFree(machine.esp, 100_000);
    await using server = await serve(writeOne("update", layers()));
    expect((await update(server)).kind).toBe("staged");
  });
});

describe("an installation without room", () => {
  /** What is found out before anything is written. */
  async function refuse(layers: readonly TestLayer[], message: RegExp): Promise<void> {
    const image = writeOne("image", layers);
    await using server = await serve(image);
    await using source = openServed(server.reference, scratch);
    const before = observe();
    await expect(installScratch(machine, image.path, { source })).rejects.toThrow(message);
    expect(observe()).toBe(before);
    expect(server.sentBytes).toBeLessThan(image.built.config.size + 30_000);
  }

  test.each<[string, (tar: Buffer) => TestLayer]>([
    ["gzip", (tar) => ({ tar, compression: "gzip" })],
    ["zstd:chunked", (tar) => makeChunkedLayer(tar)],
  ])("on the root disk, for what a %s layer unpacks to", async (_, makeLayer) => {
    execFileSync("mount", ["-o", "remount,size=16m", machine.disk]);
    const tar = makeTar({ ...FIRST, "usr/large": Buffer.alloc(20_000_000, "large") });
    await refuse(
      [makeLayer(tar)],
      /Insufficient free space for "docker:.*" in ".*disk" \(available: \d+ bytes, required: 2\d{7} bytes/,
    );
  });

  test("on the boot partition", async () => {
    const tar = makeTar({ ...FIRST, [KERNEL]: noise("large kernel", 9_000_000) });
    await refuse(
      [makeChunkedLayer(tar)],
      /Insufficient free space for the kernel and initramfs in ".*" \(available: \d+ bytes, required: 9310208 bytes\)/,
    );
  });
});
