// Objects in an insecure repository (this machine's kernel has no fs-verity; the secure way is tested
// in a VM): every path a write can take, and damage of every kind.

import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { computeVerityDigest, objectPath } from "../format/verity/digest.ts";
import { readAll } from "../sys/file.ts";
import { hasObject } from "./object-inspection.ts";
import { createObject, openObject, readObject, storeObject } from "./objects.ts";
import { ensureRepository, type Repository } from "./repository.ts";

const base = mkdtempSync(join(tmpdir(), "objects-"));
afterAll(() => rmSync(base, { recursive: true }));
let path = "";
let repo: Repository;
beforeEach(() => {
  path = join(mkdtempSync(join(base, "case-")), "composefs");
  repo = ensureRepository(null, path, { algorithm: "sha256", secure: false });
  return () => repo[Symbol.dispose]();
});

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const file = (digest: string) => join(path, "objects", objectPath(digest));
/** Every name below objects/. */
const listing = () => readdirSync(join(path, "objects"), { recursive: true }).map(String).sort();
function random(sizeBytes: number): Uint8Array {
  let state = sizeBytes + 1;
  return Uint8Array.from({ length: sizeBytes }, () => {
    state = (state * 1103515245 + 12345) & 0x7fffffff;
    return state >> 16;
  });
}

const BUFFER = 256 * 1024;

describe.each([
  ["O_TMPFILE", true],
  ["named temporary files", false],
] as const)("writing with %s", (_, hasTmpfile) => {
  beforeEach(() => {
    repo.hasTmpfile = hasTmpfile;
  });

  it.each([0, 1, 4096, 4097, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 77])(
    "stores %d bytes in pieces of any size",
    (sizeBytes) => {
      const content = random(sizeBytes);
      const digest = computeVerityDigest(content, "sha256");
      for (const piece of [1021, 65_536, Math.max(sizeBytes, 1)]) {
        using writer = createObject(repo);
        for (let at = 0; at < sizeBytes; at += piece)
          writer.write(content.subarray(at, at + piece));
        expect(writer.finish()).toEqual({ digest, sizeBytes });
        expect(Buffer.compare(readFileSync(file(digest)), content)).toBe(0);
        expect(listing()).toEqual([digest.slice(0, 2), objectPath(digest)]);
        if (piece !== 1021) rmSync(join(path, "objects"), { recursive: true });
        repo.objectDirectories.clear();
      }
    },
  );

  it("keeps an object that is there and good", () => {
    const small = storeObject(repo, bytes("same"));
    const before = statSync(file(small)).ino;
    storeObject(repo, bytes("same"));
    expect(statSync(file(small)).ino).toBe(before);
    const inodes = [1, 2].map(() => {
      using writer = createObject(repo);
      writer.write(random(BUFFER + 5));
      return statSync(file(writer.finish().digest)).ino;
    });
    expect(inodes[0]).toBe(inodes[1]!);
  });

  it.each([4, BUFFER + 9])("replaces an object of %d bytes whose content is wrong", (sizeBytes) => {
    const content = random(sizeBytes);
    const store = () => {
      using writer = createObject(repo);
      writer.write(content);
      return writer.finish().digest;
    };
    const digest = store();
    const damaged = random(sizeBytes);
    damaged[sizeBytes - 1]! ^= 1;
    writeFileSync(file(digest), damaged); // same size: size must not count
    expect(store()).toBe(digest);
    expect(Buffer.compare(readFileSync(file(digest)), content)).toBe(0);
    expect(listing()).toEqual([digest.slice(0, 2), objectPath(digest)]);
  });

  it.each([10, BUFFER + 10])("leaves nothing of a write of %d bytes given up", (sizeBytes) => {
    storeObject(repo, bytes("first"));
    const before = listing();
    {
      using writer = createObject(repo);
      writer.write(random(sizeBytes));
    }
    expect(listing()).toEqual(before);
  });

  it("lets several writers work at the same time", () => {
    const contents = [1, 2, 3].map((n) => random(BUFFER / 2 + n));
    const writers = contents.map(() => createObject(repo));
    for (let at = 0; at < BUFFER; at += 10_000) {
      for (const [i, writer] of writers.entries())
        writer.write(contents[i]!.subarray(at, at + 10_000));
    }
    expect(writers.map((writer) => writer.finish().digest)).toEqual(
      contents.map((content) => computeVerityDigest(content, "sha256")),
    );
  });
});

describe("writers", () => {
  it("make objects everybody may read and nobody runs, whatever the buffers hold", () => {
    const digest = storeObject(repo, bytes("x"));
    expect(statSync(file(digest)).mode & 0o7777).toBe(0o644);
  });

  it("copy what they are given", () => {
    const shared = bytes("first");
    using writer = createObject(repo);
    writer.write(shared);
    shared.fill(0);
    expect(readFileSync(file(writer.finish().digest), "utf8")).toBe("first");
  });

  it("are used up by finish", () => {
    const writer = createObject(repo);
    writer.finish();
    expect(() => writer.write(bytes("x"))).toThrow("used after its end");
    expect(() => writer.finish()).toThrow("used after its end");
    writer[Symbol.dispose]();
    expect(repo.buffers.length).toBe(1);
  });
});

describe("reading", () => {
  it("gives content and presence", () => {
    const digest = storeObject(repo, bytes("content"));
    using fd = openObject(repo, digest);
    expect(Buffer.from(readAll(fd, 100)).toString()).toBe("content");
    expect(Buffer.from(readObject(repo, digest, 7)).toString()).toBe("content");
    expect(() => readObject(repo, digest, 6)).toThrow("is larger than 6 bytes");
    expect([hasObject(repo, digest), hasObject(repo, "0".repeat(64))]).toEqual([true, false]);
  });

  it("names what is missing and what to do", () => {
    const digest = "ab".repeat(32);
    for (const read of [() => openObject(repo, digest), () => readObject(repo, digest, 9)]) {
      expect(read).toThrow(expect.objectContaining({ kind: "integrity", code: "missing-object" }));
      expect(read).toThrow(
        `Object "${digest}" is missing from the repository "${path}"; pull the image again`,
      );
    }
  });

  it("finds one changed byte", () => {
    const digest = storeObject(repo, bytes("content"));
    writeFileSync(file(digest), "c0ntent");
    expect(() => readObject(repo, digest, 100)).toThrow(
      expect.objectContaining({ kind: "integrity", code: "digest-mismatch" }),
    );
  });

  it.each(["", "ab", "AB".repeat(32), "../".repeat(22).slice(0, 64), "ab".repeat(64)])(
    "does not take %j for a digest",
    (digest) => {
      for (const read of [openObject, hasObject]) {
        expect(() => read(repo, digest)).toThrow("is not a sha256 digest");
      }
    },
  );

  it("says that it is damaged when it cannot be opened as a file", () => {
    const digest = storeObject(repo, bytes("content"));
    rmSync(file(digest));
    symlinkSync("elsewhere", file(digest));
    for (const read of [() => openObject(repo, digest), () => readObject(repo, digest, 100)]) {
      expect(read).toThrow(expect.objectContaining({ kind: "integrity", code: "digest-mismatch" }));
    }
    expect(hasObject(repo, digest)).toBe(false);
    expect(storeObject(repo, bytes("content"))).toBe(digest);
    expect(readFileSync(file(digest), "utf8")).toBe("content");
  });

  it("is not held up by something that is no file", () => {
    const digest = "cd".repeat(32);
    mkdirSync(join(path, "objects/cd"), { recursive: true });
    execFileSync("mkfifo", [file(digest)]);
    expect(() => readObject(repo, digest, 100)).toThrow(
      expect.objectContaining({ code: "digest-mismatch" }),
    );
  });
});
