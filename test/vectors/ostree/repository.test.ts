// The two commits of the vectors, made again from their trees as a repository of mode archive: checksums, images,
// listings and differences are those of the real ostree, and every kind of damage is found.

import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fromHex } from "../../../shared/bytes/hex.ts";
import { encodeCommit } from "../../../shared/format/ostree/commit.ts";
import { encodeDirtree } from "../../../shared/format/ostree/dirtree.ts";
import { encodeOwnership } from "../../../shared/format/ostree/metadata.ts";
import type { LooseType } from "../../../shared/format/ostree/object.ts";
import {
  commitTar,
  createArchive,
  objectFile,
  writeLoose,
  writeMetadata,
} from "../../support/ostree-archive.ts";
import { runOurs } from "../../support/ostree-command.ts";

const here = import.meta.dirname;
const readText = (name: string) => readFileSync(join(here, name), "utf8");
const index = JSON.parse(readText("index.json"));
const C1: string = index.C1.commit;
const C2: string = index.C2.commit;
const REF = "lab/x86_64/stable";
const KEY = join(here, "initramfs-root-binding.key");

const scratch = mkdtempSync(join(tmpdir(), "ostree-vectors-"));
const repo = join(scratch, "repo");
afterAll(() => rmSync(scratch, { recursive: true }));

const ours = (...argv: string[]) => runOurs(["--repo", repo, ...argv]);
const text = (value: string) => ({ type: "s", value });
const binding = ["ostree.ref-binding", { type: "as", value: [REF] }] as const;
const imageDigest = (digest: string) =>
  ["ostree.composefs.digest.v0", { type: "ay", value: fromHex(digest) }] as const;

function makeRepository(path: string): string[] {
  createArchive(path);
  const first = commitTar(path, join(here, "tree-C1.tar.gz"), {
    metadata: [
      ["ostree.linux", text("6.1.0-test")],
      ["version", text("1.0")],
      ["ostree.bootable", { type: "b", value: true }],
      binding,
      imageDigest(index.C1.composefs_digest_v0),
    ],
    ...{ parent: null, subject: "lab commit 1", body: "body text" },
    timestampSec: index.C1.timestamp,
  });
  const second = commitTar(path, join(here, "tree-C2.tar.gz"), {
    metadata: [["version", text("2.0")], binding, imageDigest(index.C2.composefs_digest_v0)],
    ...{ parent: C1, subject: "lab commit 2", body: "" },
    timestampSec: index.C2.timestamp,
  });
  mkdirSync(join(path, "refs/heads/lab/x86_64"), { recursive: true });
  writeFileSync(join(path, "refs/heads", REF), `${second}\n`);
  copyFileSync(join(here, "summary.bin"), join(path, "summary"));
  for (const id of [C1, C2]) {
    const name = `${id}.commitmeta`;
    writeLoose(path, id, "commitmeta", readFileSync(join(here, "objects", name)));
  }
  return [first, second];
}

let made: string[];
beforeAll(() => {
  made = makeRepository(repo);
}, 60_000);

describe("what ostree made", () => {
  test("has the same checksums here", () => {
    expect(made).toEqual([C1, C2]);
    for (const name of readdirSync(join(here, "objects"))) {
      const [checksum, type] = name.split(".") as [string, LooseType];
      const own = readFileSync(objectFile(repo, checksum, type));
      const real = readFileSync(join(here, "objects", name));
      // Compressed bytes may differ.
      if (type !== "filez") expect(own.equals(real), name).toBe(true);
    }
  });

  test.each([
    ["c1", [C1]],
    ["c1-nv", [C1, "--no-verity"]],
    ["c2", [REF]],
  ] as const)("the image %s is the same", async (name, argv) => {
    const file = join(scratch, `${name}.cfs`);
    const [revision, ...options] = argv;
    const [digest] = await ours("image", ...options, revision!, file);
    expect(readFileSync(file)).toEqual(
      gunzipSync(readFileSync(join(here, "composefs", `${name}.cfs.gz`))),
    );
    expect(readText("composefs/digests.txt")).toContain(`sha256:${digest} ${name}.cfs`);
  });

  test("is listed the same", async () => {
    const lines = await ours("ls", "-RCX", C1);
    expect(`${lines.join("\n")}\n`).toBe(readText("tree-listing-C1.txt"));
    expect(await ours("ls", "-d", C1, "usr/bin/")).toEqual(["d00755 0 0      0 /usr/bin"]);
    expect(await ours("ls", C1, "/usr/bin", "bin")).toEqual([
      "d00755 0 0      0 /usr/bin",
      "-00755 0 0     21 /usr/bin/hello",
      "-04755 0 0      5 /usr/bin/suid",
      "l00777 0 0      0 /bin -> usr/bin",
    ]);
  });

  test("differs in what make-vectors.sh changed", async () => {
    expect(await ours("diff", `${REF}^`, REF)).toEqual([
      "M    /usr/bin/hello",
      "M    /usr/lib/os-release",
      "A    /usr/etc/conf.d/b.conf",
    ]);
    expect(await ours("diff", REF)).toEqual(await ours("diff", C1, C2));
    expect(JSON.parse((await ours("diff", "--json", C2, C1))[0]!)).toEqual({
      modified: ["/usr/bin/hello", "/usr/lib/os-release"],
      removed: ["/usr/etc/conf.d/b.conf"],
      added: [],
    });
  });

  test("is shown", async () => {
    expect(await ours("show", C1)).toEqual([
      `commit ${C1}`,
      expect.stringMatching(/^ContentChecksum: {2}[0-9a-f]{64}$/),
      "Date:  2023-11-14 22:13:20 +0000",
      "Version: 1.0",
      "Signatures: 1 (ed25519)",
      ...["", "    lab commit 1", "", "    body text", ""],
    ]);
    const log = JSON.parse((await ours("log", "--json", REF))[0]!);
    expect(log.map(({ checksum }: { checksum: string }) => checksum)).toEqual([C2, C1]);
    expect(log[0]).toMatchObject({ parent: C1, version: "2.0", subject: "lab commit 2" });
    expect(log[1].metadata["ostree.bootable"]).toBe("true");
    expect(log[1].signatures).toEqual([{ type: "ed25519", count: 1 }]);
    expect(await ours("show", C1.slice(0, 8))).toEqual(await ours("show", `${C2.slice(0, 6)}^`));
    expect(await ours("refs")).toEqual([`${C2} ${REF}`]);
    expect(await ours("summary")).toEqual([`${C2} ${REF}`]);
    const summary = JSON.parse((await ours("summary", "--json"))[0]!);
    expect(summary.refs[0]).toMatchObject({ commitSizeBytes: 268, timestampSec: 1700001000 });
  });

  test("is whole and signed", async () => {
    expect(await ours("verify", "--key", KEY)).toEqual([
      "ok: 1 refs, 2 commits, 0 partial commits, 47 objects",
      `Repository "${repo}" has no problems`,
    ]);
    expect((await ours("verify", "--images")).at(-1)).toBe(`Repository "${repo}" has no problems`);
    expect(await ours("verify", "--json", C1)).toEqual([
      '{"ok":true,"checked":{"refs":0,"commits":1,"partial commits":0,"objects":35},"errors":[]}',
    ]);
  });
});

describe("damage", () => {
  /** Kinds and paths of the findings in a copy that `spoil` changed. */
  async function find(spoil: (path: string) => void, ...argv: string[]): Promise<string[]> {
    const path = mkdtempSync(join(scratch, "damaged-"));
    cpSync(repo, path, { recursive: true, verbatimSymlinks: true });
    spoil(path);
    const lines: string[] = [];
    const checking = runOurs(["--repo", path, "verify", "--json", ...argv], lines);
    await checking.catch((error) => expect(error.message).toMatch(/has \d+ problems?$/));
    const { ok, errors } = JSON.parse(lines[0]!);
    expect(ok).toBe(errors.length === 0);
    for (const { problem, advice } of errors) expect(`${problem}; ${advice}`).not.toContain("\n");
    return errors.map(({ type, path: where }: Record<string, string>) => `${type} ${where}`);
  }
  const place = (id: string, type: LooseType) => objectFile("", id, type).slice(0);
  const HELLO = "930fc25874c26c343a792858523e747af11db9709ee14af708b8ff3fd81f9fc6";
  const USR_BIN = "e3769125ee6e483d4d6fb970ee060448fc28b24af501fc62e8aef5e25337989b";
  const META = "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488";

  function flip(path: string, at: number): void {
    const bytes = readFileSync(path);
    bytes[at < 0 ? bytes.length + at : at]! ^= 1;
    writeFileSync(path, bytes);
  }

  function cutOff(path: string): void {
    writeFileSync(path, readFileSync(path).subarray(0, -4));
  }

  test.each<[string, LooseType, (file: string) => void, string]>([
    [HELLO, "filez", (file) => rmSync(file), "object-missing"],
    [HELLO, "filez", (file) => flip(file, 20), "object-corrupt"], // the owner
    [HELLO, "filez", (file) => flip(file, -3), "object-corrupt"], // the content
    [HELLO, "filez", (file) => flip(file, 15), "object-corrupt"], // the size
    [HELLO, "filez", cutOff, "object-malformed"],
    [HELLO, "filez", (file) => writeFileSync(file, ""), "object-malformed"],
    [HELLO, "filez", (file) => writeFileSync(file, Buffer.alloc(8, 0xff)), "object-malformed"],
    [USR_BIN, "dirtree", (file) => rmSync(file), "object-missing"],
    [USR_BIN, "dirtree", (file) => flip(file, 0), "object-corrupt"],
    [META, "dirmeta", (file) => flip(file, 11), "object-corrupt"],
    [META, "dirmeta", (file) => rmSync(file), "object-missing"],
    [C1, "commit", (file) => flip(file, 200), "object-corrupt"],
    [C1, "commitmeta", (file) => flip(file, -1), "object-malformed"],
  ])("%s.%s", async (id, type, spoil, kind) => {
    const found = await find((path) => spoil(objectFile(path, id, type)));
    const where = place(id, type);
    // What the object is in other places is one finding all the same.
    expect(found).toEqual([`${kind} ${where}`]);
  });

  test("a dangling and a malformed ref, and a missing commit", async () => {
    const found = await find((path) => {
      rmSync(objectFile(path, C2, "commit"));
      rmSync(objectFile(path, C2, "commitmeta"));
      writeFileSync(join(path, "refs/heads/bad"), "x\n");
      symlinkSync("nowhere", join(path, "refs/heads/alias"));
      symlinkSync("..", join(path, "refs/heads/folder"));
      symlinkSync(REF, join(path, "refs/heads/good"));
      writeFileSync(join(path, "objects/ff"), "no folder");
    });
    expect(found).toEqual([
      "ref-malformed refs/heads/alias",
      "ref-malformed refs/heads/bad",
      "ref-malformed refs/heads/folder",
      "ref-dangling refs/heads/good",
      `ref-dangling refs/heads/${REF}`,
    ]);
    expect(await find(() => {}, "ab".repeat(32))).toEqual([
      `object-missing objects/ab/${"ab".repeat(31)}.commit`,
    ]);
  });

  test("a partial commit may lack objects, one that failed is reported", async () => {
    const lack = (path: string) => rmSync(objectFile(path, HELLO, "filez"));
    const mark = (path: string, content: string) =>
      writeFileSync(join(path, "state", `${C1}.commitpartial`), content);
    expect(await find((path) => [lack(path), mark(path, "")])).toEqual([]);
    expect(await find((path) => [lack(path), mark(path, "f")])).toEqual([
      `commit-partial state/${C1}.commitpartial`,
    ]);
  });

  test("signatures that are missing or by others", async () => {
    const wrong = join(scratch, "wrong.key");
    writeFileSync(wrong, JSON.parse(readText("keys.json")).wrong_public_b64);
    expect(await find(() => {}, "--key", wrong, C1)).toEqual([
      `commit-untrusted ${place(C1, "commit")}`,
    ]);
    const unsign = (path: string) => rmSync(objectFile(path, C1, "commitmeta"));
    expect(await find(unsign, "--key", KEY, C1, C2)).toEqual([
      `commit-unsigned ${place(C1, "commit")}`,
    ]);
    const exchange = (path: string) =>
      copyFileSync(objectFile(path, C2, "commitmeta"), objectFile(path, C1, "commitmeta"));
    expect(await find(exchange, "--key", KEY, C1)).toEqual([
      `commit-untrusted ${place(C1, "commit")}`,
    ]);
  });

  test("images that are not those that commits name", async () => {
    let bad = "";
    const found = await find((path) => {
      bad = commitTar(path, join(here, "tree-C1.tar.gz"), {
        metadata: [imageDigest(index.C2.composefs_digest_v0)],
        ...{ parent: null, subject: "", body: "", timestampSec: 1 },
      });
    }, "--images");
    expect(found).toEqual([`image-mismatch ${place(bad, "commit")}`]);
    // Damage is said once.
    const spoil = (path: string) => flip(objectFile(path, HELLO, "filez"), -3);
    expect(await find(spoil, "--images", C1)).toEqual([`object-corrupt ${place(HELLO, "filez")}`]);
  });

  test("objects that nothing leads to are checked, too", async () => {
    const stray = "cd".repeat(32);
    const found = await find((path) => {
      for (const type of ["dirtree", "dirmeta", "filez", "tombstone-commit"] as const) {
        writeLoose(path, stray, type, Buffer.from("x"));
      }
    });
    expect(found.map((line) => line.split(" ")[0])).toEqual([
      ...["object-corrupt", "object-corrupt", "object-malformed", "object-malformed"],
    ]);
  });
});

describe("refuses in one line", () => {
  const missing = join(scratch, "nothing");
  test.each([
    [["--repo", missing, "refs"], `There is no ostree repository at "${missing}"`],
    [["--repo", scratch, "refs"], `"${scratch}" is no ostree repository: it has no file "config"`],
    [["--repo", repo, "show", "nope"], `has no ref "nope"`],
    [["--repo", repo, "show", "a b"], '"a b" is neither a checksum nor the name of a ref'],
    [["--repo", repo, "show", "../../config"], "is neither a checksum nor"],
    [["--repo", repo, "show", "ab".repeat(32)], '.commit" is missing from the repository'],
    [["--repo", repo, "show", `${C1}^`], `Commit "${C1}" has no parent`],
    [["--repo", repo, "ls", C1, "/usr/nope"], 'Cannot find "/usr/nope" in the commit'],
    [["--repo", repo, "ls", C1, "/usr/bin/hello/x"], '"/usr/bin/hello" is not a directory'],
    [["--repo", repo, "cat", C1, "/usr"], '"/usr" is a directory'],
    [["--repo", repo, "cat", C1, "/bin"], '"/bin" is a symlink to "usr/bin"'],
    [["--repo", repo, "verify", "--key", missing], `Cannot read the public keys in "${missing}"`],
    [["--repo", repo, "verify", "--key", repo], `Cannot read the public keys in "${repo}"`],
    [["--repo", repo, "init"], "is an ostree repository already"],
    [["--repo", repo, "commit", "-b", "x", "--tree", scratch], 'only "bare" can be written'],
    [["--repo", repo, "commit", "-b", "..", "--tree", scratch], '".." cannot be a ref'],
    [["--sysroot", missing, "status"], `Cannot open the system at "${missing}/"`],
    [["--sysroot", scratch, "status"], 'no "ostree/repo"'],
  ])("%j", async (argv, message) => {
    await expect(runOurs(argv)).rejects.toThrow(message);
    await runOurs(argv).catch((error) => expect(error.message).not.toContain("\n"));
  });

  test.each([
    ["", 'repo_version is missing, expected "1"'],
    ["[core]\nrepo_version=2\n", 'repo_version is "2", expected "1"'],
    ["[core]\nrepo_version=1\nmode=tar\n", 'mode "tar" is unknown'],
    ["core", "neither a group nor a key"],
  ])("settings %j", async (config, message) => {
    const path = mkdtempSync(join(scratch, "config-"));
    writeFileSync(join(path, "config"), config);
    await expect(runOurs(["--repo", path, "refs"])).rejects.toThrow(message);
  });
});

describe("trees that no disk holds", () => {
  /** A commit of `depth` directories in each other, each under all of `names`. */
  function commitTower(path: string, depth: number, names: readonly string[]): string {
    createArchive(path);
    const ownership = { mode: 0o40755, uid: 0, gid: 0, xattrs: new Map() };
    const meta = writeMetadata(path, "dirmeta", encodeOwnership(ownership));
    let tree = writeMetadata(path, "dirtree", encodeDirtree({ files: [], directories: [] }));
    for (let level = 0; level < depth; level++) {
      const directories = names.map((name) => ({ name, tree, meta }));
      tree = writeMetadata(path, "dirtree", encodeDirtree({ files: [], directories }));
    }
    const texts = { subject: "", body: "", parent: null, metadata: [], related: [] };
    const commit = encodeCommit({ ...texts, timestampSec: 0, tree, meta });
    return writeMetadata(path, "commit", commit);
  }

  test("a directory that is everywhere below itself is checked once", async () => {
    const path = join(scratch, "wide");
    const commit = commitTower(path, 100, ["a", "b", "c"]);
    expect(await runOurs(["--repo", path, "verify", commit])).toEqual([
      "ok: 0 refs, 1 commits, 0 partial commits, 103 objects",
      `Repository "${path}" has no problems`,
    ]);
    expect(await runOurs(["--repo", path, "diff", commit, commit])).toEqual([]);
  });

  test("deeper than paths can be", { timeout: 30_000 }, async () => {
    const path = join(scratch, "deep");
    const commit = commitTower(path, 2100, ["a"]);
    expect((await runOurs(["--repo", path, "verify", commit])).at(-1)).toContain("no problems");
    const message = "directories more than 2048 deep";
    await expect(runOurs(["--repo", path, "ls", "-R", commit])).rejects.toThrow(message);
    await expect(runOurs(["--repo", path, "image", commit])).rejects.toThrow(message);
  });
});

test("control characters in a commit do not reach a terminal", async () => {
  const path = join(scratch, "controls");
  createArchive(path);
  const texts = { subject: "red \u001b[31m\u009b", body: "two\n\tlines\r", metadata: [] };
  const commit = commitTar(path, join(here, "tree-C1.tar.gz"), {
    ...texts,
    ...{ parent: null, timestampSec: 0 },
  });
  const shown = await runOurs(["--repo", path, "show", commit], [], true);
  expect(shown).toContain("    red \\x1b[31m\\x9b");
  expect(shown).toContain("    \tlines\\x0d");
  const plain = await runOurs(["--repo", path, "show", commit]);
  expect(plain).toContain("    red \u001b[31m\u009b");
});

test("refs of remotes and mirrors", async () => {
  const path = join(scratch, "remotes");
  cpSync(repo, path, { recursive: true });
  for (const folder of ["remotes/lab/os", "mirrors/org.example.Os/os"]) {
    mkdirSync(join(path, "refs", folder), { recursive: true });
    writeFileSync(join(path, "refs", folder, "stable"), `${C1}\n`);
  }
  expect(await runOurs(["--repo", path, "refs"])).toEqual([
    `${C2} ${REF}`,
    `${C1} lab:os/stable`,
    `${C1} org.example.Os/os/stable`,
  ]);
  for (const name of ["lab:os/stable", "lab/os/stable", "os/stable"]) {
    expect((await runOurs(["--repo", path, "show", name]))[0]).toBe(`commit ${C1}`);
  }
  await expect(runOurs(["--repo", path, "show", "other:os/stable"])).rejects.toThrow("has no ref");
  const refs = JSON.parse((await runOurs(["--repo", path, "refs", "--json"]))[0]!);
  expect(refs.map(({ kind }: { kind: string }) => kind)).toEqual(["local", "remote", "mirror"]);
});

test("a repository finds in its parent what it lacks", async () => {
  const child = join(scratch, "child");
  createArchive(child);
  writeFileSync(join(child, "config"), `[core]\nrepo_version=1\nmode=archive\nparent=${repo}\n`);
  expect(await runOurs(["--repo", child, "show", REF])).toEqual(await ours("show", REF));
  expect(await runOurs(["--repo", child, "ls", "-RCX", C1])).toEqual(await ours("ls", "-RCX", C1));
  writeFileSync(join(child, "config"), `[core]\nrepo_version=1\nparent=${child}\n`);
  await expect(runOurs(["--repo", child, "refs"])).rejects.toThrow("is its own parent");
});
