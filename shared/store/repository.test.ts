// The repository as a directory: its life from creation to use, its links, and what is refused.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { computeVerityDigest, objectPath } from "../format/verity/digest.ts";
import { openImage, publishImage } from "./images.ts";
import { formatMetadata } from "./metadata.ts";
import { storeObject } from "./objects.ts";
import { listRefs, removeRef, setRef } from "./refs.ts";
import { ensureRepository, openRepository, type Repository } from "./repository.ts";
import { publishStream, streamObject } from "./streams.ts";

const base = mkdtempSync(join(tmpdir(), "repository-"));
afterAll(() => rmSync(base, { recursive: true }));
let path = "";
beforeEach(() => {
  path = join(mkdtempSync(join(base, "case-")), "composefs");
  process.umask(0o022);
});
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const CONFIG = { algorithm: "sha512", secure: false } as const;
function withRepository<T>(action: (repo: Repository) => T): T {
  using repo = ensureRepository(null, path, CONFIG);
  return action(repo);
}

describe("creating and opening", () => {
  it("creates once and opens afterwards, keeping the configuration", () => {
    withRepository((repo) => {
      expect([repo.algorithm, repo.secure, repo.erofsVersion]).toEqual(["sha512", false, 1]);
    });
    expect(statSync(path).mode & 0o7777).toBe(0o700);
    expect(readdirSync(path)).toEqual(["meta.json"]);
    const meta = readFileSync(join(path, "meta.json"), "utf8").replace(
      '"default": 1',
      '"default": 0',
    );
    writeFileSync(join(path, "meta.json"), meta);
    withRepository((repo) => expect(repo.erofsVersion).toBe(0));
    using repo = openRepository(null, path);
    expect(repo.erofsVersion).toBe(0);
    expect(readFileSync(join(path, "meta.json"), "utf8")).toBe(meta);
  });

  it("refuses another algorithm", () => {
    withRepository(() => {});
    expect(() => ensureRepository(null, path, { algorithm: "sha256", secure: false })).toThrow(
      `The repository "${path}" uses sha512, but sha256 is wanted`,
    );
  });

  it("leaves nothing behind when fs-verity is wanted and not there", () => {
    expect(() => ensureRepository(null, path, { algorithm: "sha512", secure: true })).toThrow(
      expect.objectContaining({ kind: "unsupported", code: "no-fsverity" }),
    );
    expect(existsSync(path)).toBe(false);
  });

  it("says what is missing", () => {
    expect(() => openRepository(null, path)).toThrow(
      `No composefs repository at "${path}": there is no such directory`,
    );
    mkdirSync(path);
    expect(() => openRepository(null, path)).toThrow("it has no meta.json");
    expect(() => ensureRepository(null, join(path, "no/where"), CONFIG)).toThrow("No such file");
  });

  it("upgrades a repository from before meta.json when asked", () => {
    const digest = withRepository((repo) => storeObject(repo, bytes("old")));
    rmSync(join(path, "meta.json"));
    expect(() => openRepository(null, path)).toThrow('"bootc upgrade" brings an old repository');
    using repo = openRepository(null, path, { upgrade: true });
    expect([repo.algorithm, repo.secure, repo.erofsVersion]).toEqual(["sha512", false, 1]);
    expect(existsSync(join(path, "meta.json"))).toBe(true);
    expect(storeObject(repo, bytes("old"))).toBe(digest);
  });

  it("infers the algorithm from the first object, whatever lies around it", () => {
    mkdirSync(join(path, "objects/zz"), { recursive: true });
    mkdirSync(join(path, "objects/00"));
    writeFileSync(join(path, "objects/00/note"), "");
    writeFileSync(join(path, "objects/file"), "");
    const open = () => openRepository(null, path, { upgrade: true });
    expect(open).toThrow("it has no meta.json");
    const digest = computeVerityDigest(bytes("old"), "sha256");
    mkdirSync(join(path, "objects", digest.slice(0, 2)), { recursive: true });
    writeFileSync(join(path, "objects", objectPath(digest)), "old");
    using repo = open();
    // As composefs-rs 0.9 does, although what is there may be images of format V2.
    expect([repo.algorithm, repo.secure, repo.erofsVersion]).toEqual(["sha256", false, 1]);
    expect(readFileSync(join(path, "meta.json"), "utf8")).toBe(formatMetadata("sha256"));
  });

  it("keeps the image format of a repository that says nothing about it", () => {
    mkdirSync(path);
    const meta = '{"version": 1, "algorithm": "fsverity-sha512-12"}';
    writeFileSync(join(path, "meta.json"), meta);
    using repo = openRepository(null, path, { upgrade: true });
    expect([repo.erofsVersion, repo.extraErofsVersions]).toEqual([2, []]);
    expect(readFileSync(join(path, "meta.json"), "utf8")).toBe(meta);
  });

  it("refuses an algorithm that an old repository's objects contradict", () => {
    withRepository((repo) => storeObject(repo, bytes("old")));
    rmSync(join(path, "meta.json"));
    expect(() => ensureRepository(null, path, { algorithm: "sha256", secure: false })).toThrow(
      "uses sha512",
    );
  });

  it("only reads what a newer program marked", () => {
    withRepository(() => {});
    const file = join(path, "meta.json");
    writeFileSync(file, readFileSync(file, "utf8").replace('"v1_erofs"', '"v1_erofs", "later"'));
    withRepository((repo) => {
      for (const write of [
        () => storeObject(repo, bytes("x")),
        () => publishStream(repo, "s", "0".repeat(128)),
        () => removeRef(repo, "images", "r"),
      ]) {
        expect(write).toThrow(`it has a newer program's feature "later"; update bootc`);
      }
      expect(listRefs(repo, "images")).toEqual([]);
    });
  });
});

describe("streams and images", () => {
  it("are links to objects", () => {
    withRepository((repo) => {
      const digest = storeObject(repo, bytes("stream"));
      publishStream(repo, "oci-layer-sha256:12", digest);
      publishStream(repo, "oci-layer-sha256:12", digest);
      expect(readlinkSync(join(path, "streams/oci-layer-sha256:12"))).toBe(
        `../objects/${digest.slice(0, 2)}/${digest.slice(2)}`,
      );
      expect(streamObject(repo, "oci-layer-sha256:12")).toBe(digest);
      expect(streamObject(repo, "oci-layer-sha256:13")).toBeNull();

      const other = storeObject(repo, bytes("rewritten"));
      publishStream(repo, "oci-layer-sha256:12", other);
      expect(streamObject(repo, "oci-layer-sha256:12")).toBe(other);

      const image = publishImage(repo, bytes("image"));
      expect(image).toBe(computeVerityDigest(bytes("image"), "sha512"));
      expect(readFileSync(join(path, "images", image), "utf8")).toBe("image");
      const opened = openImage(repo, image);
      expect(opened.verity).toBe(false);
      opened.fd.close();
      expect(readdirSync(path).sort()).toEqual(["images", "meta.json", "objects", "streams"]);
    });
  });

  it("need their object", () => {
    withRepository((repo) => {
      expect(() => publishStream(repo, "s", "0".repeat(128))).toThrow("its object is not stored");
      expect(() => publishStream(repo, "s", "0".repeat(64))).toThrow("is not a sha512 digest");
      expect(() => openImage(repo, "0".repeat(128))).toThrow(
        expect.objectContaining({ code: "missing-object" }),
      );
    });
  });

  it.each(["", ".", "..", "refs", "a/b", "a\0b", "a\nb"])("cannot be called %j", (name) => {
    withRepository((repo) => {
      const digest = storeObject(repo, bytes("x"));
      expect(() => publishStream(repo, name, digest)).toThrow("cannot be the name");
      expect(() => streamObject(repo, name)).toThrow("cannot be the name");
    });
  });

  it("do not follow links that lead elsewhere", () => {
    withRepository((repo) => {
      mkdirSync(join(path, "streams"));
      symlinkSync("../../etc/passwd", join(path, "streams/evil"));
      expect(() => streamObject(repo, "evil")).toThrow("is not a link to an object");
    });
  });
});

describe("references", () => {
  it("point to the first level, however deep they are", () => {
    withRepository((repo) => {
      publishStream(repo, "oci-manifest-1", storeObject(repo, bytes("1")));
      publishStream(repo, "oci-manifest-2", storeObject(repo, bytes("2")));
      setRef(repo, "streams", "top", "oci-manifest-1");
      setRef(repo, "streams", "oci/localhost%2Fbootc-1", "oci-manifest-1");
      setRef(repo, "streams", "oci-referrers/a/b", "oci-manifest-1");
      const link = (name: string) => readlinkSync(join(path, "streams/refs", name));
      expect([link("top"), link("oci/localhost%2Fbootc-1"), link("oci-referrers/a/b")]).toEqual([
        "../oci-manifest-1",
        "../../oci-manifest-1",
        "../../../oci-manifest-1",
      ]);
      setRef(repo, "streams", "top", "oci-manifest-2");
      expect(listRefs(repo, "streams")).toEqual([
        { name: "oci-referrers/a/b", target: "oci-manifest-1" },
        { name: "oci/localhost%2Fbootc-1", target: "oci-manifest-1" },
        { name: "top", target: "oci-manifest-2" },
      ]);
      expect(readFileSync(join(path, "streams/refs/top"), "utf8")).toBe("2");
      removeRef(repo, "streams", "top");
      removeRef(repo, "streams", "top");
      removeRef(repo, "streams", "no/such");
      expect(listRefs(repo, "streams").length).toBe(2);
      expect(listRefs(repo, "images")).toEqual([]);
      expect(readdirSync(path).sort()).toEqual(["meta.json", "objects", "streams"]);
    });
  });

  it("need a target and a decent name", () => {
    withRepository((repo) => {
      publishStream(repo, "s", storeObject(repo, bytes("1")));
      expect(() => setRef(repo, "streams", "r", "t")).toThrow(`streams/t is not in "${path}"`);
      for (const name of ["", "/", "a//b", "../x", "a/..", "a/", "\n"]) {
        expect(() => setRef(repo, "streams", name, "s")).toThrow("cannot be the name");
        expect(() => removeRef(repo, "streams", name)).toThrow("cannot be the name");
      }
    });
  });
});

describe("a repository that moves", () => {
  it("works at another path, because all links are relative", () => {
    const image = withRepository((repo) => publishImage(repo, bytes("image")));
    renameSync(path, `${path}-moved`);
    using repo = openRepository(null, `${path}-moved`);
    using fd = openImage(repo, image).fd;
    expect(statSync(`/proc/self/fd/${fd.number}`).size).toBe(5);
    expect(existsSync(join(`${path}-moved`, "objects", objectPath(image)))).toBe(true);
  });
});
