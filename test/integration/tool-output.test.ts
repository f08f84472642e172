// Where the composefs tools' output goes when it has nowhere to go: full disks, pipes without a reader,
// closed descriptors. What is of no use unless it is whole must fail; nothing half made may stay.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runInMountNamespace, type Step } from "../support/mount-namespace.ts";

const MAIN = resolve(import.meta.dirname, "../../main.ts");
const scratch = mkdtempSync(join(tmpdir(), "tool-output-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** More than a pipe holds, as an image and as a listing. */
const FILES = 3000;

const SCRIPT = `
cd "$SCRATCH"
tool() { "$BUN" "$MAIN" internals "$@"; }
into_nothing() { { code=0; "$@" || code=$?; echo "$code" >code; } | true; cat code; }
mount -t tmpfs -o size=64k tmpfs full

step make tool mkcomposefs --from-file dump image
step image-full sh -c '"$BUN" "$MAIN" internals mkcomposefs --from-file dump - >/dev/full'
step listing-full sh -c '"$BUN" "$MAIN" internals composefs-info ls image >/dev/full'
step digest-full sh -c '"$BUN" "$MAIN" internals composefs-info measure-file image >/dev/full'
step image-pipe into_nothing tool mkcomposefs --from-file dump -
step listing-pipe into_nothing tool composefs-info dump image
step closed-input sh -c '"$BUN" "$MAIN" internals mkcomposefs --from-file - made <&-'
step full-disk tool mkcomposefs --from-file dump full/image
step full-disk-left ls -A full
step full-store tool mkcomposefs --digest-store=full/store tree made
step full-store-left sh -c 'find full -type f; ls made'
rm -r full/store
echo old >full/old
step overwrite tool mkcomposefs --from-file missing full/old
step overwrite-left cat full/old
step own-copy tool composefs-dump image copy
step own-copy-same cmp image copy
step copy-of-nothing tool composefs-dump dump copy
umount full
`;

describe("the tools' output", () => {
  let steps: ReadonlyMap<string, Step>;
  const output = (name: string) => steps.get(name)?.output;

  beforeAll(() => {
    for (const name of ["tree", "full"]) mkdirSync(join(scratch, name));
    writeFileSync(join(scratch, "tree/large"), "x".repeat(100_000));
    const files = Array.from(
      { length: FILES },
      (_, i) => `/file${i} 40 100644 1 0 0 0 0.0 - ${"c".repeat(40)} -\n`,
    );
    writeFileSync(join(scratch, "dump"), `/ 0 40755 2 0 0 0 0.0 - - -\n${files.join("")}`);
    const environment = { BUN: process.execPath, MAIN, SCRATCH: scratch };
    steps = runInMountNamespace(SCRIPT, environment);
  });

  test.each([
    ["image-full", "Cannot write to standard output"],
    ["listing-full", "Cannot write to standard output"],
    ["digest-full", "composefs-info: Cannot write to standard output"],
    ["closed-input", "Dump is empty"],
    ["full-disk", "No space left"],
    ["full-store", "No space left"],
    ["overwrite", 'openat "missing": No such file'],
    ["copy-of-nothing", "composefs-dump: "],
  ])("fails: %s", (name, message) => {
    expect(output(name)).toContain(message);
    expect(output(name)!.split("\n")).toHaveLength(1);
    expect(steps.get(name)?.code).toBe(1);
  });

  test("an image that nobody took is a failure, a listing is not", () => {
    expect(steps.get("make")).toEqual({ output: "", code: 0 });
    expect(output("image-pipe")).toMatch(/Cannot write to standard output.*\n1$/);
    expect(output("listing-pipe")).toBe("0");
  });

  test("nothing half made stays", () => {
    expect(output("full-disk-left")).toBe("");
    expect(output("full-store-left")).toMatch(/^ls: cannot access 'made'/);
    expect(output("overwrite-left")).toBe("old");
  });

  test("composefs-dump makes the same bytes again", () => {
    expect(steps.get("own-copy")).toEqual({ output: "", code: 0 });
    expect(steps.get("own-copy-same")).toEqual({ output: "", code: 0 });
    const [image, copy] = ["image", "copy"].map((name) => readFileSync(join(scratch, name)));
    expect(copy!.equals(image!)).toBe(true);
  });
});
