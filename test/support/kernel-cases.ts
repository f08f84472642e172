// What test/integration/sys-mount.test.ts does with mounts, each case in a process and a mount namespace
// of its own, so that the test runner's is not changed:
//
//   bun test/support/kernel-cases.ts CASE DIRECTORY     prints the case's result as one line of JSON
//
// "secureStore" can also be run by hand on a file system with fs-verity, "transactions" on vfat.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describeError } from "../../shared/error.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import { openImage, publishImage } from "../../shared/store/images.ts";
import { hasObject } from "../../shared/store/object-inspection.ts";
import {
  createObject,
  ensureObjectFromFile,
  openObject,
  readObject,
  storeObject,
} from "../../shared/store/objects.ts";
import {
  ensureRepository,
  openRepository,
  type Repository,
} from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import { MNT, MOUNT_ATTR, MS, O } from "../../shared/sys/constants.ts";
import { openDirectory, removeTree } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, reopenReadOnly, writeAll } from "../../shared/sys/file.ts";
import { attachLoop } from "../../shared/sys/loop.ts";
import {
  chroot,
  fsconfigCreate,
  fsconfigFd,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  mount,
  mountSetattr,
  moveMount,
  openTree,
  umount2,
  unshareMounts,
} from "../../shared/sys/mount.ts";
import { fstatat, fstatfs } from "../../shared/sys/stat.ts";
import { enableVerity, measureVerity } from "../../shared/sys/verity.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import { securePieces } from "./secure-pieces.ts";
import { secureRepair } from "./secure-repair.ts";
import { makeTree } from "./tree-builder.ts";

const [name = "", directory = ""] = process.argv.slice(2);
const at = (path: string) => join(directory, path);
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** The error as a person sees it. */
function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    return `${code}: ${describeError(error)}`.replaceAll(directory, "DIR");
  }
  return "nothing was refused";
}

function makeTmpfs(options: Readonly<Record<string, string>> = {}): Fd {
  using context = fsopen("tmpfs");
  for (const [key, value] of Object.entries(options)) fsconfigString(context, key, value);
  fsconfigCreate(context);
  return fsmount(context, MOUNT_ATTR.NODEV);
}

function mountTmpfs(path: string, options: Readonly<Record<string, string>> = {}): void {
  mkdirSync(path, { recursive: true });
  using tree = makeTmpfs(options);
  moveMount(tree, null, path);
}

/** An ext4 image with the fs-verity feature, mounted. */
function mountExt4(path: string): void {
  const image = at("ext4.img");
  execFileSync("truncate", ["-s", "64M", image]);
  execFileSync("mkfs.ext4", ["-q", "-b", "4096", "-O", "verity", image]);
  mkdirSync(path);
  execFileSync("mount", ["-o", "loop", image, path]);
}

/** An EROFS image file of a small tree. */
function makeImage(): string {
  const root = makeTree({ "etc/motd": "hello from the image" });
  const path = at("image.erofs");
  writeFileSync(path, writeErofs(root, { version: 1, dialect: "rust" }));
  return path;
}

function mountErofs(source: string): string {
  using context = fsopen("erofs");
  fsconfigString(context, "source", source);
  fsconfigFlag(context, "ro");
  fsconfigCreate(context);
  mkdirSync(at("erofs"), { recursive: true });
  const tree = fsmount(context, MOUNT_ATTR.NODEV);
  moveMount(tree, null, at("erofs"));
  tree.close(); // or the mount would be busy
  const text = readFileSync(at("erofs/etc/motd"), "utf8");
  umount2(at("erofs"), 0);
  return text;
}

/** Small objects until the disk is full; returns how many were stored. */
function fill(repo: Repository): number {
  for (let count = 0; ; count++) {
    try {
      storeObject(repo, new Uint8Array(30_000).fill(count));
    } catch (error) {
      if ((error as { code?: string }).code !== "no-space") throw error;
      return count;
    }
  }
}

const CASES = {
  mountApi() {
    mountTmpfs(at("m"), { mode: "0711", size: "1m" });
    writeFileSync(at("m/file"), "data");
    const stat = fstatat(null, at("m"));
    using fd = openDirectory(null, at("m"));
    const { type, readOnly } = fstatfs(fd);
    return { mode: stat.mode, isMountRoot: stat.isMountRoot, type, readOnly };
  },

  attributes() {
    mountTmpfs(at("m"));
    using tree = openTree(null, at("m"));
    mountSetattr(tree, { set: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID, recursive: true });
    const readOnly = refusal(() => openat(null, at("m/file"), O.WRONLY | O.CREAT, 0o644));
    mountSetattr(tree, { clear: MOUNT_ATTR.RDONLY });
    openat(null, at("m/file"), O.WRONLY | O.CREAT, 0o644).close();
    const options = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .find((line) => line.includes(` ${at("m")} `))
      ?.split(" ")[5];
    mount(null, at("m"), null, MS.REMOUNT | MS.RDONLY, null);
    using fd = openDirectory(null, at("m"));
    return { readOnly, options, remounted: fstatfs(fd).readOnly };
  },

  clones() {
    mountTmpfs(at("m"));
    mkdirSync(at("m/sub"));
    mountTmpfs(at("m/sub"));
    writeFileSync(at("m/sub/file"), "below");
    using plain = openTree(null, at("m"), { clone: true });
    using whole = openTree(null, at("m"), { clone: true, recursive: true });
    for (const path of ["plain", "whole"]) mkdirSync(at(path));
    moveMount(plain, null, at("plain"));
    using target = openDirectory(null, at("whole"));
    moveMount(whole, target, "");
    using self = openDirectory(null, at("m/sub"));
    using fromFd = openTree(self, "", { clone: true });
    mkdirSync(at("third"));
    moveMount(fromFd, null, at("third"));
    return {
      plain: readdirSync(at("plain/sub")),
      whole: readdirSync(at("whole/sub")),
      third: readdirSync(at("third")),
    };
  },

  refusals() {
    using context = fsopen("tmpfs");
    using tree = makeTmpfs();
    using ordinary = openDirectory(null, directory);
    return {
      type: refusal(() => fsopen("nonsense")),
      option: refusal(() => fsconfigString(context, "nonsense", "1")),
      value: refusal(() => fsconfigString(context, "size", "many")),
      flag: refusal(() => fsconfigFlag(context, "size")),
      fd: refusal(() => fsconfigFd(context, "size", ordinary)),
      early: refusal(() => fsmount(context, 0)),
      source: refusal(() => {
        using erofs = fsopen("erofs");
        fsconfigString(erofs, "source", at("none"));
        fsconfigCreate(erofs);
      }),
      target: refusal(() => moveMount(tree, null, at("none"))),
      tree: refusal(() => openTree(null, at("none"), { clone: true })),
      attributes: refusal(() => mountSetattr(ordinary, { set: MOUNT_ATTR.RDONLY })),
      mount: refusal(() => mount("x", directory, "nonsense", 0, null)),
      umount: refusal(() => umount2(directory, 0)),
      chroot: refusal(() => chroot(at("none"))),
    };
  },

  erofs() {
    const path = makeImage();
    using image = openat(null, path, O.RDONLY);
    const loop = attachLoop(image);
    const throughLoop = mountErofs(loop.device);
    const writing = refusal(() => {
      using device = openat(null, loop.device, O.WRONLY);
      writeAll(device, new Uint8Array(512));
    });
    const backing = `/sys/block/${loop.device.slice(5)}/loop/backing_file`;
    const attached = existsSync(backing) && readFileSync(backing, "utf8").trim() === path;
    loop.fd.close();
    const fileBacked = mountErofs(`/proc/self/fd/${image.number}`);
    writeFileSync(at("bad.erofs"), new Uint8Array(65_536));
    using bad = openat(null, at("bad.erofs"), O.RDONLY);
    const refused = refusal(() => mountErofs(`/proc/self/fd/${bad.number}`));
    using pipe = openat(null, "/dev/null", O.RDONLY);
    return {
      throughLoop,
      fileBacked,
      attached,
      refused,
      writing,
      loop: refusal(() => attachLoop(pipe)),
    };
  },

  removeTree() {
    mkdirSync(at("tree/a/b"), { recursive: true });
    writeFileSync(at("tree/a/file"), "");
    mountTmpfs(at("tree/a/b"));
    writeFileSync(at("tree/a/b/precious"), "");
    mkdirSync(at("other"));
    writeFileSync(at("other/precious"), "");
    mkdirSync(at("tree/bind"));
    mount(at("other"), at("tree/bind"), null, MS.BIND, null);
    const first = refusal(() => removeTree(null, at("tree/a")));
    const second = refusal(() => removeTree(null, at("tree/bind")));
    const kept = [existsSync(at("tree/a/b/precious")), existsSync(at("other/precious"))];
    umount2(at("tree/a/b"), 0);
    umount2(at("tree/bind"), MNT.DETACH);
    removeTree(null, at("tree"));
    return { first, second, kept, left: readdirSync(directory) };
  },

  newRoot() {
    mountTmpfs(at("root"));
    writeFileSync(at("root/here"), "");
    process.chdir(at("root"));
    mount(".", "/", null, MS.MOVE, null);
    chroot(".");
    process.chdir("/");
    return readdirSync("/");
  },

  fullDisk() {
    mountTmpfs(at("m"), { size: "1m" });
    writeFileAtomic(null, at("m/file"), bytes("old"), { mode: 0o644 });
    using repo = ensureRepository(null, at("m/repo"), { algorithm: "sha512", secure: false });
    storeObject(repo, bytes("x"));
    const free = () => statfsSync(at("m")).bfree;
    const before = free();
    const large = refusal(() => {
      using writer = createObject(repo);
      for (let i = 0; i < 20; i++) writer.write(new Uint8Array(100_000).fill(i));
      writer.finish();
    });
    const afterLarge = free() - before;
    const stored = fill(repo);
    const objects = readdirSync(at("m/repo/objects"), { recursive: true }).map(String);
    const file = refusal(() =>
      writeFileAtomic(null, at("m/file"), new Uint8Array(200_000), { mode: 0o644 }),
    );
    const transaction = refusal(() =>
      applyTransaction({
        prepare: [
          { kind: "mkdir", path: at("m/staged"), mode: 0o755 },
          { kind: "write", path: at("m/staged/big"), bytes: new Uint8Array(200_000), mode: 0o644 },
        ],
        commit: { kind: "exchange", a: at("m/staged"), b: at("m/live") },
        cleanup: [],
      }),
    );
    return {
      large,
      afterLarge,
      storedSome: stored > 10,
      whole: objects.filter((path) => path.length > 2).length === stored + 1,
      temporary: objects.filter((path) => path.startsWith(".")),
      file,
      old: readFileSync(at("m/file"), "utf8"),
      transaction,
      left: readdirSync(at("m")).sort(),
    };
  },

  readOnlyDisk() {
    mountTmpfs(at("m"));
    const old = ensureRepository(null, at("m/repo"), { algorithm: "sha256", secure: false });
    const digest = storeObject(old, bytes("content"));
    old[Symbol.dispose]();
    rmSync(at("m/repo/meta.json"));
    mount(null, at("m"), null, MS.REMOUNT | MS.RDONLY, null);
    using repo = openRepository(null, at("m/repo"), { upgrade: true });
    return {
      algorithm: repo.algorithm,
      read: Buffer.from(readObject(repo, digest, 100)).toString(),
      again: storeObject(repo, bytes("content")) === digest,
      store: refusal(() => storeObject(repo, bytes("new"))),
    };
  },

  ext4() {
    mountExt4(at("m"));
    using fd = openat(null, at("m/file"), O.RDWR | O.CREAT, 0o644);
    writeAll(fd, bytes("content"));
    using readOnly = reopenReadOnly(fd);
    fd.close();
    let supported = true;
    const enabled = refusal(() => enableVerity(readOnly, "sha256"));
    if (enabled !== "nothing was refused") supported = false;
    const result = {
      supported,
      enabled,
      repository: "",
      left: [] as string[],
      secure: null as unknown,
    };
    const path = at("m/repo");
    if (supported) return { ...result, secure: secureStore(path) };
    result.repository = refusal(() =>
      ensureRepository(null, path, { algorithm: "sha512", secure: true }),
    );
    result.left = readdirSync(at("m")).filter((entry) => entry !== "lost+found");
    return result;
  },

  secureStore: () => secureStore(at("repo")),

  secureRepair() {
    mkdirSync(at("repair"));
    return secureRepair(at("repair"));
  },

  securePieces() {
    mkdirSync(at("pieces"));
    return securePieces(at("pieces"));
  },

  /** To be run in a directory on vfat: twice an update as the deployer makes it. */
  transactions() {
    const results: unknown[] = [];
    for (const generation of ["1", "2", "3"]) {
      const entries = at("loader/entries");
      applyTransaction({
        prepare: [
          { kind: "remove", path: `${entries}.staged` },
          { kind: "mkdir", path: at("loader"), mode: 0o755 },
          { kind: "mkdir", path: `${entries}.staged`, mode: 0o755 },
          {
            kind: "write",
            path: `${entries}.staged/a long name ${generation}.conf`,
            bytes: bytes(generation),
            mode: 0o644,
          },
          {
            kind: "write",
            path: at("kernel"),
            bytes: new Uint8Array(3 << 20).fill(7),
            mode: 0o644,
          },
          { kind: "copy", from: at("kernel"), to: at("copy"), mode: 0o600 },
          { kind: "sync", path: `${entries}.staged` },
        ],
        commit: { kind: "exchange", a: `${entries}.staged`, b: entries },
        cleanup: [{ kind: "remove", path: `${entries}.staged` }],
      });
      writeFileAtomic(null, at("loader/loader.conf"), bytes(`default ${generation}`), {
        mode: 0o600,
      });
      results.push(readdirSync(directory, { recursive: true }).sort());
    }
    const same = readFileSync(at("kernel")).equals(readFileSync(at("copy")));
    return { results, same, text: readFileSync(at("loader/loader.conf"), "utf8") };
  },
} satisfies Readonly<Record<string, () => unknown>>;
export type CaseName = keyof typeof CASES;

/** Every way of the secure store; needs fs-verity at `path`. All fields should be true or as named. */
function secureStore(path: string): unknown {
  const created = ensureRepository(null, path, { algorithm: "sha512", secure: true });
  created[Symbol.dispose]();
  using repo = openRepository(null, path);
  const file = (digest: string) => join(path, "objects", objectPath(digest));
  const measured = (digest: string) => {
    using fd = openObject(repo, digest);
    return measureVerity(fd)?.digest === digest;
  };
  const small = storeObject(repo, bytes("small"));
  const content = new Uint8Array(700_001).fill(7);
  using writer = createObject(repo);
  for (let index = 0; index < content.length; index += 50_000) {
    writer.write(content.subarray(index, index + 50_000));
  }
  const large = writer.finish().digest;
  publishStream(repo, "s", small);
  const image = publishImage(
    repo,
    writeErofs(makeTree({ file: "x" }), { version: 1, dialect: "rust" }),
  );
  const opened = openImage(repo, image);
  opened.fd.close();

  const bare = computeVerityDigest(bytes("bare"), "sha512");
  mkdirSync(join(path, "objects", bare.slice(0, 2)), { recursive: true });
  writeFileSync(file(bare), "bare");
  const withoutVerity = refusal(() => openObject(repo, bare)).split(":")[0];
  const hasBare = hasObject(repo, bare);
  using insecure = openRepository(null, path, { insecure: true });
  const tolerated = Buffer.from(readObject(insecure, bare, 10)).toString();
  const healed = storeObject(repo, bytes("bare")) === bare && measured(bare);

  const wrong = computeVerityDigest(bytes("wrong"), "sha512");
  mkdirSync(join(path, "objects", wrong.slice(0, 2)), { recursive: true });
  execFileSync("ln", [file(small), file(wrong)]);
  const mistaken = refusal(() => readObject(repo, wrong, 10)).split(":")[0];

  const busy = storeWhileBusy(repo);
  const resealed = reseal(repo, file);
  repo.hasTmpfile = false;
  const named = storeObject(repo, bytes("named"));
  return {
    secure: repo.secure,
    small: measured(small),
    large: large === computeVerityDigest(content, "sha512") && measured(large),
    named: measured(named),
    again: storeObject(repo, bytes("small")) === small,
    stream: readlinkSync(join(path, "streams/s")).endsWith(small.slice(2)),
    image: opened.verity,
    immutable: refusal(() => openat(null, file(small), O.WRONLY)).split(":")[0],
    withoutVerity,
    hasBare,
    tolerated,
    healed,
    mistaken,
    busy: measured(busy) && readObject(repo, busy, 1 << 20).length === 400_000,
    resealed: measured(resealed),
    temporary: readdirSync(join(path, "objects")).filter((entry) => entry.startsWith(".")),
  };
}

/** Another descriptor has the new file open for writing all the time: ETXTBSY, so a copy is sealed. */
function storeWhileBusy(repo: Repository): string {
  using writer = createObject(repo);
  for (let index = 0; index < 8; index++) writer.write(new Uint8Array(50_000).fill(index));
  const links = readdirSync("/proc/self/fd").map((number) => `/proc/self/fd/${number}`);
  const nameless = links.filter((link) => {
    try {
      return readlinkSync(link).includes("/objects/#");
    } catch {
      return false; // the listing's own descriptor
    }
  });
  if (nameless.length !== 1) throw new Error(`${nameless.length} nameless files instead of 1`);
  using _ = openat(null, nameless[0]!, O.WRONLY);
  return writer.finish().digest;
}

/** An intact object that lost its fs-verity gets it back in a file of its own. */
function reseal(repo: Repository, file: (digest: string) => string): string {
  const digest = computeVerityDigest(bytes("bare once more"), "sha512");
  mkdirSync(join(file(digest), ".."), { recursive: true });
  writeFileSync(file(digest), "bare once more");
  using input = openat(null, file(digest), O.RDONLY);
  return ensureObjectFromFile(repo, input).digest;
}

unshareMounts();
console.log(JSON.stringify(await CASES[name as CaseName]()));
