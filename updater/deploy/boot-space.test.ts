import { describe, expect, test } from "vitest";
import { type BootRoom, countBootBytes, judgeBootRoom } from "./boot-space.ts";

const KIB = 1024;

describe("bytes on a boot partition", () => {
  const entries = [
    { fileName: "bootc_fedora-42-1+3.conf", text: "x".repeat(700) },
    { fileName: "bootc_fedora-41-0.conf", text: "x".repeat(5000) },
  ];
  test.each([
    // Staged directory, its parent, two entries of one and two clusters.
    ["entries", { kernelBytes: [], entries }, 4 * KIB, (1 + 1 + 1 + 2) * 4 * KIB],
    // Kernel directory and its parent besides, the files rounded up.
    [
      "a kernel",
      { kernelBytes: [1, 4 * KIB + 1], entries: [] },
      4 * KIB,
      (1 + 1 + 1 + 2) * 4 * KIB,
    ],
    ["both", { kernelBytes: [1, 1], entries }, 32 * KIB, (2 + 2 + 2 + 2) * 32 * KIB],
    ["nothing", { kernelBytes: [], entries: [] }, 512, 0],
    // A unified kernel and two addons: three directories and their parents, three files.
    [
      "files in several directories",
      {
        kernelBytes: [4 * KIB + 1, 1, 1],
        kernelNames: [["a.efi"], ["b.addon.efi"], ["c.addon.efi"]],
        entries: [],
      },
      4 * KIB,
      (3 * 2 + 2 + 1 + 1) * 4 * KIB,
    ],
    // 320 bytes of ".", ".." and a temporary name, and 96 + 96 bytes of names.
    ["small clusters", { kernelBytes: [], entries }, 512, 512 + 512 + 1024 + 5120],
  ])("%s", (_, files, clusterBytes, expected) => {
    expect(countBootBytes(files, clusterBytes)).toBe(expected);
  });
});

describe("is there room?", () => {
  const room: BootRoom = {
    path: "/boot",
    availableBytes: 100,
    clusterBytes: 1,
    staged: [{ name: "s", bytes: 50 }],
    givable: [
      { id: "old", bytes: 10 },
      { id: "rollback", bytes: 60 },
    ],
  };
  test("yes, or when what is staged goes", () => {
    expect(judgeBootRoom(room, 100)).toEqual([]);
    expect(judgeBootRoom(room, 101)).toEqual(["s"]);
    expect(judgeBootRoom(room, 150)).toEqual(["s"]);
  });

  test("no: the numbers, and the command that makes room", () => {
    expect(() => judgeBootRoom(room, 151, ", of x")).toThrow(
      'in "/boot" (available: 150 bytes, required: 151 bytes, of x); "bootc delete-deployment old" frees 10 bytes',
    );
    expect(() => judgeBootRoom(room, 170)).toThrow(
      /"bootc delete-deployment rollback" frees 60 bytes$/,
    );
    expect(() => judgeBootRoom(room, 300)).toThrow(/free at least 150 bytes there, or make/);
    const last = { ...room, givable: [{ id: "rollback", bytes: 60 }] };
    expect(() => judgeBootRoom(last, 160)).toThrow(/but leaves nothing to fall back to/);
  });
});
