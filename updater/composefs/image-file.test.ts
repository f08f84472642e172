import {
  linkSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ImageSource, readImageFile, writeImageFile } from "./image-file.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "image-file-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const IMAGE = Buffer.from("image");
/** In two pieces that share their memory. */
const source: ImageSource = (put) => {
  const memory = Buffer.alloc(3);
  for (const text of ["ima", "ge"]) put(memory.subarray(0, memory.write(text)));
};
const mode = (path: string) => lstatSync(path).mode & 0o777;

describe("writeImageFile", () => {
  test("makes a file with the umask's mode and nothing beside it", () => {
    writeImageFile(join(dir, "new"), source);
    expect(readdirSync(dir)).toEqual(["new"]);
    expect(readFileSync(join(dir, "new"))).toEqual(IMAGE);
    expect(mode(join(dir, "new"))).toBe(0o666 & ~process.umask());
  });

  test("overwrites in place: links and mode stay", () => {
    const path = join(dir, "old");
    writeFileSync(path, "much longer than the image", { mode: 0o600 });
    linkSync(path, join(dir, "other"));
    writeImageFile(path, source);
    expect(readFileSync(join(dir, "other"))).toEqual(IMAGE);
    expect(mode(path)).toBe(0o600);
  });

  test("follows a symlink, also one that leads nowhere yet", () => {
    symlinkSync("target", join(dir, "link"));
    writeImageFile(join(dir, "link"), source);
    expect(lstatSync(join(dir, "link")).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(dir, "target"))).toEqual(IMAGE);
  });

  test.each([
    ["missing/image", "No such file"],
    ["", "Is a directory"],
  ])("says why %j cannot be written", (name, message) => {
    expect(() => writeImageFile(`${dir}/${name}`, source)).toThrow(message);
  });
});

describe("readImageFile", () => {
  test("reads regular files only", () => {
    writeImageFile(join(dir, "image"), source);
    expect(readImageFile(join(dir, "image"))).toEqual(new Uint8Array(IMAGE));
    expect(() => readImageFile(dir)).toThrow("is not a regular file");
    expect(() => readImageFile("/dev/null")).toThrow("is not a regular file");
  });
});
