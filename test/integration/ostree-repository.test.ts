// Ostree repositories and systems on real disks, beside the real ostree: damage that both find, locks that each
// respects, attributes that lie apart, large files, commits that fail, and the deployments of a sysroot.

import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeGVariant } from "../../shared/format/gvariant/encode.ts";
import { xattrsToVariant } from "../../shared/format/ostree/metadata.ts";
import { checkContent, openContent, readXattrs } from "../../shared/ostree/content.ts";
import { readCommit } from "../../shared/ostree/objects.ts";
import { resolveRevision } from "../../shared/ostree/refs.ts";
import { lockForWriting, openOstreeRepository } from "../../shared/ostree/repository.ts";
import { findEntry } from "../../shared/ostree/tree.ts";
import { mknodat } from "../../shared/sys/link.ts";
import { lsetxattr } from "../../shared/sys/xattr.ts";
import { objectFile } from "../support/ostree-archive.ts";
import { runOurs, runReal, runRealWell } from "../support/ostree-command.ts";
import { makeOstreeTree } from "../support/random-ostree-tree.ts";

const scratch = mkdtempSync(join(tmpdir(), "ostree-repository-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const at = (...names: string[]) => join(scratch, ...names);
const ours = (repo: string, ...argv: string[]) => runOurs(["--repo", at(repo), ...argv]);

/** A tree with one file of each kind of interest. */
function makeTree(path: string): void {
  mkdirSync(join(path, "dir"), { recursive: true });
  writeFileSync(join(path, "file"), "content\n");
  lsetxattr(join(path, "file"), "user.x", Buffer.from("value"));
  writeFileSync(join(path, "dir/other"), "other\n");
  symlinkSync("file", join(path, "link"));
}

beforeAll(async () => {
  makeTree(at("tree"));
  await ours("repo", "init");
  await ours("repo", "commit", "-b", "main", "--tree", at("tree"), "--timestamp", "5");
});

/** The checksum of the commit's object at `path`. */
function objectAt(repo: string, path: string): string {
  using opened = openOstreeRepository(at(repo));
  const root = readCommit(opened, resolveRevision(opened, "main"));
  const entry = findEntry(opened, root, path);
  return entry.kind === "file" ? entry.checksum : entry.tree;
}

describe("damage", () => {
  const file = (repo: string) => objectFile(at(repo), objectAt("repo", "/file"), "file");
  const link = (repo: string) => objectFile(at(repo), objectAt("repo", "/link"), "file");
  const tree = (repo: string) => objectFile(at(repo), objectAt("repo", "/dir"), "dirtree");
  const CASES: readonly [string, (repo: string) => void, string | null][] = [
    ["nothing", () => {}, null],
    ["another time", (repo) => utimesSync(file(repo), 1, 1), null],
    ["other content", (repo) => writeFileSync(file(repo), "contenT\n"), "object-corrupt"],
    ["less content", (repo) => writeFileSync(file(repo), ""), "object-corrupt"],
    ["another mode", (repo) => chmodSync(file(repo), 0o600), "object-corrupt"],
    ["another owner", (repo) => chownSync(file(repo), 1, 0), "object-corrupt"],
    ["one more xattr", (repo) => lsetxattr(file(repo), "user.y", SOME), "object-corrupt"],
    ["another xattr", (repo) => lsetxattr(file(repo), "user.x", SOME), "object-corrupt"],
    ["no file", (repo) => rmSync(file(repo)), "object-missing"],
    ["a directory for it", (repo) => replaceBy(file(repo), mkdirSync), "object-malformed"],
    ["a FIFO for it", (repo) => replaceBy(file(repo), makeFifo), "object-malformed"],
    [
      "another target",
      (repo) => replaceBy(link(repo), (p) => symlinkSync("x", p)),
      "object-corrupt",
    ],
    [
      "a file for a link",
      (repo) => replaceBy(link(repo), (p) => writeFileSync(p, "file")),
      "object-corrupt",
    ],
    ["no directory", (repo) => rmSync(tree(repo)), "object-missing"],
    ["a wrong directory", (repo) => writeFileSync(tree(repo), "x"), "object-corrupt"],
  ];
  const SOME = Buffer.from("some");
  const makeFifo = (path: string) => mknodat(null, path, 0o010644, 0);
  function replaceBy(path: string, make: (path: string) => void): void {
    rmSync(path);
    make(path);
  }

  test("is found by both, and what is none by neither", async () => {
    await runRealWell(
      scratch,
      CASES.map((_, i) => `cp -a repo damaged-${i}`),
    );
    for (const [i, [, spoil]] of CASES.entries()) spoil(`damaged-${i}`);
    for (const [i, [name, , kind]] of CASES.entries()) {
      const lines: string[] = [];
      const checking = runOurs(["--repo", at(`damaged-${i}`), "verify", "--json"], lines);
      await checking.catch((error) => expect(error.message).toContain("has 1 problem"));
      const { errors } = JSON.parse(lines[0]!);
      expect([name, errors[0]?.type ?? null]).toEqual([name, kind]);
    }
    // After ours: it marks the commits that it finds damaged.
    const real = await runReal(
      scratch,
      CASES.map((_, i) => `timeout 20 ostree --repo=damaged-${i} fsck`),
    );
    const found = CASES.map(([name], i) => [name, real[i]!.code !== 0]);
    expect(found).toEqual(CASES.map(([name, , kind]) => [name, kind !== null]));
  });
});

describe("locks", () => {
  test("of ours keep ostree from collecting garbage, and are given up", async () => {
    await runRealWell(scratch, [
      "cp -a repo locked",
      "ostree --repo=locked config set core.lock-timeout-secs 1",
    ]);
    using repo = openOstreeRepository(at("locked"));
    {
      using _ = lockForWriting(repo);
      const [prune, commit] = await runReal(scratch, [
        "ostree --repo=locked prune --refs-only",
        "ostree --repo=locked commit -b more --tree=dir=tree",
      ]);
      expect([prune!.code, commit!.code]).toEqual([1, 0]);
      expect(readFileSync(at("0.err"), "utf8")).toContain("Locking repo");
    }
    const [prune] = await runReal(scratch, ["ostree --repo=locked prune --refs-only"]);
    expect(prune!.code).toBe(0);
  });
});

test("attributes that lie apart, as bare-split-xattrs has them", async () => {
  await runRealWell(scratch, ["cp -a repo split"]);
  const config = at("split/config");
  writeFileSync(
    config,
    readFileSync(config, "utf8").replace("mode=bare", "mode=bare-split-xattrs"),
  );
  const checksum = objectAt("repo", "/file");
  const object = objectFile(at("split"), checksum, "file");
  const variant = encodeGVariant("a(ayay)", xattrsToVariant(readXattrs(object)));
  // What the file itself has does not count.
  lsetxattr(object, "user.x", Buffer.from("ignored"));
  const lines: string[] = [];
  await runOurs(["--repo", at("split"), "verify", "--json"], lines).catch(() => {});
  expect(JSON.parse(lines[0]!).errors).toHaveLength(1);
  writeFileSync(objectFile(at("split"), checksum, "file-xattrs-link"), variant);
  expect((await ours("split", "verify")).at(-1)).toContain("no problems");
  expect(await ours("split", "ls", "-X", "main", "/file")).toEqual(
    await ours("repo", "ls", "-X", "main", "/file"),
  );
});

test("a commit that fails leaves nothing behind", async () => {
  await runRealWell(scratch, ["cp -a repo failing", "cp -a tree bad-tree"]);
  writeFileSync(at("bad-tree/new"), "new\n");
  mknodat(null, at("bad-tree/zz-fifo"), 0o010644, 0);
  const before = readdirSync(at("failing"), { recursive: true }).sort();
  const commit = ours("failing", "commit", "-b", "main", "--tree", at("bad-tree"));
  await expect(commit).rejects.toThrow('zz-fifo" is neither file, directory nor symlink');
  expect(readdirSync(at("failing"), { recursive: true }).sort()).toEqual(
    [...before, ".lock"].filter((name, i, all) => all.indexOf(name) === i).sort(),
  );
  rmSync(at("bad-tree/zz-fifo"));
  writeFileSync(Buffer.concat([Buffer.from(at("bad-tree/")), Buffer.from([0xff])]), "");
  const named = ours("failing", "commit", "-b", "main", "--tree", at("bad-tree"));
  await expect(named).rejects.toThrow("is not valid UTF-8");
  expect((await ours("failing", "verify")).at(-1)).toContain("no problems");
});

test.each([
  [["-b", "main/x", "--tree", at("tree")], 'Cannot have a ref "main/x": there is a ref "main"'],
  [["-b", "x", "--tree", at("nothing")], `Cannot commit "${at("nothing")}"`],
  [["-b", "x", "--tree", at("tree/file")], `Cannot commit "${at("tree/file")}"`],
  [["-b", "x", "--tree", at("tree"), "--parent", "nope"], 'has no ref "nope"'],
])("commit %j is refused", async (argv, message) => {
  await expect(ours("repo", "commit", ...argv)).rejects.toThrow(message);
  expect(await ours("repo", "refs")).not.toContain("x");
});

test("a repository that requires fs-verity is not written to", async () => {
  await runRealWell(scratch, [
    "cp -a repo sealed",
    "ostree --repo=sealed config set ex-integrity.fsverity true",
  ]);
  const commit = ours("sealed", "commit", "-b", "x", "--tree", at("tree"));
  await expect(commit).rejects.toThrow("it requires fs-verity");
});

test("large files stream: from archives and into bare repositories", async () => {
  const bytes = 200 << 20;
  const real = ["dd if=/dev/zero of=large/zeros bs=1M count=200", "printf x >>large/zeros"];
  await runRealWell(scratch, [
    ...["mkdir large", ...real, "cp -a repo big", "ostree --repo=archive init --mode=archive"],
    "ostree --repo=archive commit -b large --tree=dir=large --timestamp=@5",
  ]);
  const [checksum] = await ours(
    "big",
    "commit",
    "-b",
    "large",
    "--tree",
    at("large"),
    "--timestamp",
    "5",
  );
  const [refs] = await ours("archive", "refs");
  expect(refs).toBe(`${checksum} large`);
  using repo = openOstreeRepository(at("archive"));
  const entry = findEntry(repo, readCommit(repo, checksum!), "zeros");
  expect(entry.kind).toBe("file");
  if (entry.kind !== "file") return;
  Bun.gc(true);
  const start = process.memoryUsage.rss();
  await checkContent(repo, entry.checksum);
  using content = openContent(repo, entry.checksum);
  let length = 0;
  for await (const chunk of content.chunks()) length += chunk.length;
  expect(length).toBe(bytes + 1);
  expect(process.memoryUsage.rss() - start).toBeLessThan(100 << 20);
});

describe("a system that ostree deployed", () => {
  const status = async (...argv: string[]) => {
    const lines: string[] = [];
    const error = await runOurs(["--sysroot", at("sys"), "status", ...argv], lines).then(
      () => null,
      (failure: Error) => failure.message,
    );
    return { lines, error };
  };

  beforeAll(async () => {
    makeOstreeTree(at("os"), 3);
    rmSync(at("os/usr"), { recursive: true, force: true });
    rmSync(at("os/etc"), { recursive: true, force: true });
    const modules = "usr/lib/modules/6.1.0";
    mkdirSync(at("os", modules), { recursive: true });
    mkdirSync(at("os/usr/etc"), { recursive: true });
    writeFileSync(at("os", modules, "vmlinuz"), "kernel");
    writeFileSync(at("os", modules, "initramfs.img"), "initramfs");
    writeFileSync(at("os/usr/lib/os-release"), 'ID=labos\nPRETTY_NAME="Lab OS"\n');
    await ours("repo", "commit", "-b", "os/stable", "--tree", at("os"), "-s", "first");
    await runRealWell(scratch, [
      "mkdir sys && ostree admin init-fs --epoch=1 sys",
      "ostree admin --sysroot=sys os-init labos",
      "ostree --repo=sys/ostree/repo pull-local --remote=lab repo os/stable",
      "export OSTREE_SYSROOT_DEBUG=mutable-deployments; ostree admin --sysroot=sys deploy --os=labos --karg=quiet lab:os/stable",
      "ostree admin --sysroot=sys deploy --os=labos --retain lab:os/stable",
    ]);
  }, 300_000);

  test("is listed as ostree lists it", async () => {
    const [real] = await runRealWell(scratch, ["ostree admin --sysroot=sys status"]);
    const { lines, error } = await status();
    expect(error).toBe(null);
    const names = (text: readonly string[]) =>
      text.flatMap((line) => /^ *(labos [0-9a-f]{64}\.\d+)/.exec(line)?.[1] ?? []);
    expect(names(lines)).toEqual(names(real!.split("\n")));
    expect(names(lines)).toHaveLength(2);
    expect(lines).toContain("    Origin: lab:os/stable");
    const { deployments } = JSON.parse((await status("--json")).lines[0]!);
    expect(deployments[0]).toMatchObject({ stateroot: "labos", entryIndex: 2, bootSerial: 0 });
    expect(deployments[1].options).toContain("quiet");
    expect(existsSync(at("sys", deployments[0].path, "usr/lib/os-release"))).toBe(true);
    // The image that the deployment got is the one made here.
    const image = at("own.cfs");
    await runOurs(["--sysroot", at("sys"), "image", "--no-verity", deployments[0].commit, image]);
    const deployed = readFileSync(at("sys", deployments[0].path, ".ostree.cfs"));
    expect(readFileSync(image).equals(deployed)).toBe(true);
    expect((await runOurs(["--sysroot", at("sys"), "verify"])).at(-1)).toContain("no problems");
  });

  test("what ostree fails on is said, and the rest is shown", async () => {
    const loader = at("sys/boot/loader/entries");
    const [first] = readdirSync(loader).sort();
    const text = readFileSync(join(loader, first!), "utf8");
    const bad = [
      ["ostree-7.conf", "title x\n"],
      ["ostree-8.conf", "linux /x\noptions quiet\n"],
      ["ostree-9.conf", text.replace(/(ostree=\S+)/, "$1/")],
      ["ostree-6.conf", text.replace(/(ostree=\S+)\/0/, "$1/5").replace(/\/1$/m, "/5")],
    ] as const;
    for (const [name, content] of bad) writeFileSync(join(loader, name), content);
    writeFileSync(join(loader, "foreign.conf"), "title x\n");
    const { lines, error } = await status();
    expect(error).toContain("has 4 problems");
    const problems = lines.filter((line) => line.startsWith("problem: "));
    expect(problems).toEqual([
      expect.stringContaining('"ostree-6.conf": It leads to "'),
      expect.stringContaining('"ostree-7.conf": Boot entry "ostree-7.conf" needs exactly one of'),
      expect.stringContaining('"ostree-8.conf": It has no "ostree="'),
      expect.stringContaining('"ostree-9.conf": It has "ostree=/ostree/boot.'),
    ]);
    for (const [name] of bad) rmSync(join(loader, name));
    mkdirSync(at("sys/run/ostree"), { recursive: true });
    const record = join(import.meta.dirname, "../vectors/ostree/staged/staged-deployment.bin");
    copyFileSync(record, at("sys/run/ostree/staged-deployment"));
    expect((await status()).lines[0]).toMatch(/^labos [0-9a-f]{64}\.2 \(staged\)$/);
    const link = at("sys/boot/loader");
    renameSync(link, `${link}.old`);
    mkdirSync(link);
    expect((await status()).error).toBe('"boot/loader" is no symlink');
    rmSync(link, { recursive: true });
    symlinkSync("elsewhere", link);
    expect((await status()).lines).toContain(
      'problem: "boot/loader" leads to "elsewhere", expected "loader.0" or "loader.1"',
    );
  });
});
