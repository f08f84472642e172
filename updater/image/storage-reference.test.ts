import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import { formatRegistryReference } from "../registry/reference.ts";
import { readStoreRoots, storeRootsOf } from "./storage-conf.ts";
import { parseStorageReference, storedName } from "./storage-reference.ts";

const ID = "0123456789abcdef".repeat(4);
const DIGEST = `sha256:${ID}`;

describe("references", () => {
  test.each<[string, string | null, string | null, string | null]>([
    ["os", "docker.io/library/os:latest", null, null],
    ["localhost/os:v1", "localhost/os:v1", null, null],
    [`example.com/os@${DIGEST}`, `example.com/os@${DIGEST}`, null, null],
    [`example.com/os:v1@${DIGEST}`, `example.com/os:v1@${DIGEST}`, null, null],
    [`example.com/os:v1@${ID}`, "example.com/os:v1", ID, null],
    [ID, null, ID, null],
    ["0123abc", "docker.io/library/0123abc:latest", null, "0123abc"],
    ["ab", "docker.io/library/ab:latest", null, null],
  ])("%s", (image, name, id, shortId) => {
    const found = parseStorageReference(image);
    expect(found.name && formatRegistryReference(found.name)).toBe(name);
    expect(found).toMatchObject({ store: null, id, shortId });
  });

  test.each<[string, object]>([
    ["[/g]", { driver: null, graphRoot: "/g", options: [] }],
    ["[overlay@/g]", { driver: "overlay", graphRoot: "/g", options: [] }],
    ["[vfs@/g+/run/r]", { driver: "vfs", graphRoot: "/g", options: [] }],
    [
      "[overlay@/g+/r:overlay.imagestore=/s,x=y]",
      { driver: "overlay", graphRoot: "/g", options: ["overlay.imagestore=/s", "x=y"] },
    ],
  ])("%sos", (specifier, store) => {
    expect(parseStorageReference(`${specifier}os`).store).toEqual(store);
  });

  test("the stored name has no digest", () => {
    const { name } = parseStorageReference(`example.com/os:v1@${DIGEST}`);
    expect(storedName(name!)).toBe("example.com/os:v1");
    expect(storedName(parseStorageReference(`a/os@${DIGEST}`).name!)).toBeNull();
  });

  test.each([
    ["", /names no image/],
    ["[/g]", /names no image/],
    ["[g]os", /"g" is not an absolute path/],
    ["[overlay@]os", /"" is not an absolute path/],
    ["[../x@/g]os", /"\.\.\/x" is not a storage driver/],
    ["OS", /lower case/],
    ["os@sha256:../../x", /not a digest/],
    ["../os", /is not a/],
  ])("%s is refused", (image, message) => {
    expect(() => parseStorageReference(image)).toThrow(message);
    expect(() => parseStorageReference(image)).toThrow(UsageError);
  });
});

describe("storage.conf", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "storage-conf-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const put = (path: string, text: string) => {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const read = (environment: Record<string, string> = {}) =>
    readStoreRoots({ root, environment, userId: 0 });

  test("nothing said", () => {
    expect(read()).toEqual({ driver: null, paths: [join(root, "var/lib/containers/storage")] });
  });

  test("later files count, drop-ins come last", () => {
    put("usr/share/containers/storage.conf", '[storage]\ndriver = "vfs"\ngraphroot = "/a"\n');
    put("etc/containers/storage.conf", '[storage]\ngraphroot = "/b"\ndriver = ""\n');
    put("usr/share/containers/storage.conf.d/50.conf", '[storage]\nimagestore = "/c"\n');
    put("etc/containers/storage.conf.d/50.conf", '[storage]\nimagestore = "/d"\n');
    put(
      "etc/containers/storage.conf.d/60.conf",
      '[storage.options]\nadditionalimagestores = ["/e", "/f"]\n',
    );
    put("etc/containers/storage.conf.d/70.txt", "not read");
    expect(read()).toEqual({ driver: "vfs", paths: ["/b", "/d", "/e", "/f"] });
  });

  test("the environment", () => {
    put("own.conf", '[storage]\ngraphroot = "/own"\n');
    const environment = {
      CONTAINERS_STORAGE_CONF: join(root, "own.conf"),
      STORAGE_DRIVER: "overlay",
      STORAGE_OPTS: "overlay.mountopt=nodev,additionalimagestore=/more",
    };
    expect(read(environment)).toEqual({ driver: "overlay", paths: ["/own", "/more"] });
  });

  test("in brackets", () => {
    const { store } = parseStorageReference("[/g+/r:overlay.imagestore=/s]os");
    expect(storeRootsOf(store!)).toEqual({ driver: null, paths: ["/g", "/s"] });
  });

  test.each([
    ["no TOML", "storage = ", /storage\.conf" is not TOML/],
    ["a wrong type", "[storage]\ngraphroot = 1\n", /wrong at "storage\.graphroot"/],
  ])("%s names the file", (_name, text, message) => {
    put("etc/containers/storage.conf", text);
    expect(() => read()).toThrow(message);
  });
});
