// Updates that fail: the machine is as it was before, down to the objects in its repository, and the
// next update works.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { type UpdateObserver, updateImage } from "../../updater/deploy/update.ts";
import type { UpdateStep } from "../../updater/deploy/update-step.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import type { TarMember } from "../support/tar-builder.ts";

const quiet: UpdateObserver = { onProgress: () => {}, onStep: () => {} };

let machine: ScratchMachine;
let running: RunningMachine;
let imagePath: string;
beforeEach(async () => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
  writeScratchImage(imagePath, { version: "1" });
  await installScratch(machine, imagePath);
  running = machine.boot();
  // An installation leaves streams that were written twice.
  collectGarbage(running.repo, { roots: [running.booted.id], dryRun: false });
  rmSync(imagePath, { recursive: true });
});
afterEach(() => {
  running[Symbol.dispose]();
  machine[Symbol.dispose]();
});

function update(observer = quiet) {
  const reference = makeImageReference("oci", imagePath);
  const source = openSource(reference);
  const request = { kind: "upgrade", reference, source } as const;
  const options = { checkOnly: false, downloadOnly: false, dryRun: false };
  return updateImage(running, running.booted, { ...request, ...options }, observer);
}

/**
 * Every file of the disk, the boot partition and /run; of the object store no empty directories. That there is
 * an update is noted in state/bootc.
 */
function observe(): string {
  const places = [machine.disk, machine.esp, machine.run];
  const find = (...tests: string[]) =>
    execFileSync("find", [...places, "-not", "-path", "*/state/bootc*", ...tests], {
      encoding: "utf8",
    });
  const isStore = ["-type", "d", "-path", "*/composefs/objects*"];
  return [
    find("-type", "f", "-exec", "sha256sum", "{}", "+"),
    find("-not", "(", ...isStore, ")", "-printf", "%p %y %m %l\n"),
  ]
    .map((text) => text.split("\n").sort().join("\n"))
    .join("\n");
}

async function expectFailure(message: RegExp, observer = quiet): Promise<void> {
  const before = observe();
  const error = await update(observer).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(Error);
  expect(describeError(error)).toMatch(message);
  expect(observe()).toBe(before);
}

describe("a failed update leaves the machine as it was", () => {
  test("no such image", () => expectFailure(/There is no directory ".*os.oci"/));

  test.each<[string, readonly TarMember[], RegExp]>([
    ["path escape", [{ name: "../evil", content: "x" }], /Layer .* contains ".."/],
    ["no kernel", [{ name: "usr/lib/modules/6.12-2/.wh.vmlinuz" }], /Image has no kernel/],
    ["without /etc", [{ name: ".wh.etc" }], /no directory "\/etc"/],
  ])("%s", async (_, members, message) => {
    writeScratchImage(imagePath, { version: "2", members });
    await expectFailure(message);
  });

  test("corrupt layer", async () => {
    const content = createHash("shake256", { outputLength: 300_000 }).update("2").digest();
    writeScratchImage(imagePath, { version: "2", members: [{ name: "usr/noise", content }] });
    const blobs = join(imagePath, "blobs/sha256");
    const [largest] = execFileSync("ls", ["-S", blobs], { encoding: "utf8" }).split("\n");
    const bytes = readFileSync(join(blobs, largest!));
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(join(blobs, largest!), bytes);
    await expectFailure(/Layer sha256:\w+ of ".*" is corrupt/);
  });

  test("an /etc conflict", async () => {
    writeFileSync(join(machine.root, "etc/local"), "mine");
    const directory = { name: "etc/local", type: "5", mode: 0o755 };
    writeScratchImage(imagePath, { version: "2", members: [directory] });
    await expectFailure(/etc/);
  });

  test.each<[string, readonly TarMember[]]>([
    // A page each in the store, but two blocks in the layer.
    [
      "while fetching",
      Array.from({ length: 600 }, (_, i) => ({ name: `usr/${i}`, content: `${i} `.repeat(100) })),
    ],
  ])("a full disk, %s", async (_, members) => {
    writeScratchImage(imagePath, { version: "2", members });
    execFileSync("mount", ["-o", "remount,size=2m", machine.disk]);
    await expectFailure(/No space left for the .* free some space and try again/);
  });

  const largeEtc = [{ name: "etc/large", content: Buffer.alloc(1_500_000, "large") }];
  test("a disk that is too full to stage", async () => {
    writeScratchImage(imagePath, { version: "2", members: largeEtc });
    execFileSync("mount", ["-o", "remount,size=3m", machine.disk]);
    await expectFailure(
      /^Insufficient free space for the deployment's \/etc in ".*" \(available: \d+ bytes, required: 3\d{6} bytes\)/,
    );
  });

  test("a disk that somebody fills while staging", async () => {
    writeScratchImage(imagePath, { version: "2", members: largeEtc });
    const fill = () => execFileSync("mount", ["-o", "remount,size=3m", machine.disk]);
    const onStep = (step: UpdateStep | null) => {
      if (step?.id === "deploying") fill();
    };
    const message = /No space left for the .* free some space and try again/;
    await expectFailure(message, { ...quiet, onStep });
  });

  test("a full disk before anything is fetched", async () => {
    const content = Buffer.alloc(8_000_000, "large");
    writeScratchImage(imagePath, { version: "2", members: [{ name: "usr/large", content }] });
    execFileSync("mount", ["-o", "remount,size=3m", machine.disk]);
    await expectFailure(/Insufficient free space for "oci:.*" in ".*disk" \(available: /);
  });

  test.each(["onProgress", "onStep"] as const)("an interruption, noticed by %s", async (name) => {
    writeScratchImage(imagePath, { version: "2" });
    const controller = new AbortController();
    const stop = () => controller.abort(new Error("stop"));
    await expectFailure(/^stop$/, { ...quiet, signal: controller.signal, [name]: stop });
  });

  test("one verb's failure is no obstacle for the next", async () => {
    writeScratchImage(imagePath, { version: "2", members: [{ name: "../evil", content: "x" }] });
    await expectFailure(/contains ".."/);
    rmSync(imagePath, { recursive: true });
    writeScratchImage(imagePath, { version: "2" });
    await expect(update()).resolves.toMatchObject({ kind: "staged" });
  });
});
