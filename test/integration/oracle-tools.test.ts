// Our mkcomposefs and composefs-info beside the real ones (Debian's, in the tools root), as programs: the
// same command lines on the same directories and images give the same output, exit code and files.
// `npm run test:all` takes ten times as many trees; a failure names its seed and command line.

import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { S_IFCHR } from "../../shared/format/tree/node.ts";
import { mknodat } from "../../shared/sys/link.ts";
import { askOurTools, askRealTools, type ToolAnswer } from "../support/composefs-tools.ts";
import { mutateDump } from "../support/mutated-dump.ts";
import { makeRandomDirectory } from "../support/random-directory.ts";
import { createRandom, makeRandomDump } from "../support/random-dump.ts";
import { ensureToolsRoot } from "../vm/tools-root.ts";

const TREES = process.env["TEST_ALL"] === undefined ? 40 : 400;

const scratch = mkdtempSync(join(tmpdir(), "oracle-tools-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
beforeAll(async () => {
  await ensureToolsRoot();
});

let runs = 0;

/** Answers of both, and the directories they were asked in. */
async function askBoth(lines: readonly string[][]) {
  const own = join(scratch, `${runs}-own`);
  const real = join(scratch, `${runs++}-real`);
  const [ours, theirs] = [await askOurTools(own, lines), await askRealTools(real, lines)];
  return { own, real, ours, theirs };
}

function expectSame(
  lines: readonly string[][],
  ours: readonly ToolAnswer[],
  theirs: readonly ToolAnswer[],
) {
  for (const [i, line] of lines.entries()) {
    const where = line.join(" ");
    const describe = ({ out, code }: ToolAnswer, err: string) =>
      `${where}: ${code} ${out.toString("latin1")}${err}`;
    // What the message says is our own affair, that there is one is not.
    const isSilent = (answer: ToolAnswer) => (answer.err === "" ? " silent" : " explained");
    expect(describe(ours[i]!, isSilent(ours[i]!))).toBe(describe(theirs[i]!, isSilent(theirs[i]!)));
  }
}

function listFiles(path: string): [string, string, string][] {
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const stat = lstatSync(join(path, name));
      const content = stat.isFile() ? readFileSync(join(path, name)).toString("base64") : "";
      return [name, stat.mode.toString(8), content];
    });
}

/** Of formats; what is not given has a meaning of its own. */
const VERSIONS = [
  [],
  ["--min-version=0"],
  ["--max-version=0"],
  ["--max-version=1"],
  ["--min-version=1"],
  ["--min-version=0", "--max-version=1"],
];

const MOUNT_OPTIONS = [
  ["", "ro", "basedir", "basedir=", "basedir=a::b", "basedir=a:", "basedir=.,", "basedir=.,,ro"],
  ["basedir=.,nonsense", "basedir=.,noverity", "basedir=.,digest", "basedir=.,digest=xyz"],
  ["basedir=.,upperdir=u", "basedir=.,workdir=w", "basedir=.,upperdir", "basedir=.,idmap"],
  ["basedir=.,idmap=missing", `basedir=.,digest=${"ab".repeat(32)}`, "basedir=."],
].flat();

const SCANS = [
  [],
  ["--min-version=1"],
  ["--max-version", "0"],
  ["--skip-devices", "--threads=1"],
  ["--skip-xattrs"],
  ["--user-xattrs", "--use-epoch"],
];

describe("directories", () => {
  test("images, stores and listings agree", async () => {
    const lines: string[][] = [];
    for (let seed = 0; seed < TREES; seed++) {
      const tree = join(scratch, `tree-${seed}`);
      makeRandomDirectory(tree, seed);
      const options = SCANS[seed % SCANS.length]!;
      const image = `image-${seed}`;
      lines.push([
        "mkcomposefs",
        "--digest-store=store/a",
        "--print-digest",
        ...options,
        tree,
        image,
      ]);
      lines.push(["mkcomposefs", "--print-digest", ...options, `${tree}/`, "-"]);
      lines.push(["mkcomposefs", "--print-digest-only", ...options, tree]);
      lines.push(["composefs-info", "ls", image]);
      lines.push(["composefs-info", "dump", image]);
      lines.push(["composefs-info", "objects", image]);
      lines.push(["composefs-info", "--basedir=store/a", "missing-objects", image]);
    }
    const { own, real, ours, theirs } = await askBoth(lines);
    expectSame(lines, withoutEmptyXattrs(ours), withoutEmptyXattrs(theirs));
    expect(listFiles(join(own, "store"))).toEqual(listFiles(join(real, "store")));
    expect(listFiles(join(own, "store")).length).toBeGreaterThan(20);
    for (let seed = 0; seed < TREES; seed++) {
      const name = `image-${seed}`;
      expect(readFileSync(join(own, name)).equals(readFileSync(join(real, name))), name).toBe(true);
    }
  });
});

// composefs-info loses an xattr whose stored name and value are both empty.
function withoutEmptyXattrs(answers: readonly ToolAnswer[]): ToolAnswer[] {
  const pattern =
    / (?:user\.|trusted\.|security\.|system\.posix_acl_(?:access|default))=(?=[ \n])/g;
  return answers.map((answer) => ({
    ...answer,
    out: Buffer.from(answer.out.toString("latin1").replace(pattern, ""), "latin1"),
  }));
}

describe("dumps", () => {
  test("images and listings agree", async () => {
    const lines: string[][] = [];
    for (let seed = 5000; seed < 5000 + TREES; seed++) {
      const dump = join(scratch, `${seed}.dump`);
      writeFileSync(dump, Buffer.from(makeRandomDump(seed, { maxEntries: 60 }), "latin1"));
      const image = `image-${seed}`;
      lines.push(["mkcomposefs", "--from-file", "--print-digest", dump, image]);
      lines.push(["composefs-info", "ls", image]);
      lines.push(["composefs-info", "dump", image]);
      lines.push(["composefs-info", "--filter=ab", "--filter=a1", "dump", image]);
      lines.push(["composefs-info", "--filter=00", "ls", image]);
      lines.push(["composefs-info", "objects", image, image]);
      lines.push(["composefs-info", "--basedir=/", "missing-objects", image]);
    }
    const { ours, theirs } = await askBoth(lines);
    expectSame(lines, withoutEmptyXattrs(ours), withoutEmptyXattrs(theirs));
  });
});

describe("damaged dumps", () => {
  test.each([
    ["as they are", []],
    ["strictly", ["CFS_PARSE_STRICT=1"]],
  ])("are taken and refused alike, read %s", async (_name, strict) => {
    const lines: string[][] = [];
    for (let seed = 20_000; seed < 20_000 + 8 * TREES; seed++) {
      const dump = join(scratch, `${seed}.dump`);
      const text = makeRandomDump(seed, { maxEntries: 12 });
      writeFileSync(dump, Buffer.from(mutateDump(createRandom(seed), text), "latin1"));
      lines.push([...strict, "mkcomposefs", "--print-digest-only", "--from-file", dump]);
    }
    const { ours, theirs } = await askBoth(lines);
    expectSame(lines, ours, theirs);
    const refused = theirs.filter(({ code }) => code !== 0).length;
    expect(refused).toBeGreaterThan(lines.length / 5);
    expect(refused).toBeLessThan(lines.length);
  });
});

describe("command lines", () => {
  const tree = join(scratch, "command-line-tree");
  const whiteouts = join(scratch, "whiteouts");
  const file = join(tree, "file");
  const dump = join(scratch, "command-line.dump");
  const small = ["mkcomposefs", "--print-digest-only"];
  const mount = (...argv: string[]) => ["mount.composefs", ...argv];
  const LINES = [
    ["mkcomposefs"],
    ["mkcomposefs", tree],
    ["mkcomposefs", tree, "image"],
    ["mkcomposefs", tree, "image", "more"],
    ["mkcomposefs", tree, "missing/image"],
    ["mkcomposefs", tree, "/dev/full"],
    ["mkcomposefs", "--print-digest", tree, "/dev/null"],
    ["mkcomposefs", "missing", "x"],
    ["mkcomposefs", file, "x"],
    ["mkcomposefs", "--help"],
    ["mkcomposefs", "--nonsense", tree, "x"],
    ["mkcomposefs", `--digest-store=${file}`, tree, "x"],
    [...small, tree, "image"],
    [...small, tree],
    [tree, ...small]
      .toReversed()
      .toSorted((a, b) => Number(b === "mkcomposefs") - Number(a === "mkcomposefs")),
    [...small, "--", tree],
    [...small, "--min=1", tree],
    [...small, "--min-version", "1", tree],
    [...small, "--min-version"],
    ...["x", "", "2", "-1", "2x"].map((version) => [...small, `--min-version=${version}`, tree]),
    ...["x", "2", "-1"].map((version) => [...small, `--max-version=${version}`, tree]),
    [...small, "--min-version=1", "--max-version=0", tree],
    ...VERSIONS.map((options) => [...small, ...options, whiteouts]),
    [...small, ""],
    [...small, "-C", tree],
    [...small, "--print-digest", "--use-e", "--skip-d", tree],
    [...small, "--from-file", "--skip-xattrs", "--user-xattrs", "--digest-store=s", dump],
    ["mkcomposefs", tree, ""],
    ["mkcomposefs", "--from-file", dump, "from-dump", "--print-digest"],
    ["composefs-info", "dump", "from-dump"],
    ...["0", "-1", "x", "", "2x", "1"].map((count) => [...small, `--threads=${count}`, tree]),
    [...small, "--skip-xattrs", "--user-xattrs", tree],
    [...small, "--from-file", file],
    [...small, "--from-file", "missing"],
    [...small, "--from-file", tree],
    [...small, "--from-file", "-"],
    ["composefs-info", "ls"],
    ["composefs-info", "ls", "missing"],
    ["composefs-info", "ls", file],
    ["composefs-info", "ls", tree],
    ["composefs-info", "ls", "/dev/null"],
    ["composefs-info", "ls", "image", "missing"],
    ["composefs-info", "nonsense", "image"],
    ["composefs-info", "--filter=a/b", "ls", "image"],
    ["composefs-info", "--filter=", "dump", "image"],
    ["composefs-info", "ls", "--filter", "file", "image"],
    ["composefs-info", "--basedir=missing", "missing-objects", "image"],
    ["composefs-info", "missing-objects", "image"],
    ["composefs-info", "--", "ls", "image"],
    ["composefs-info", "--basedir=missing", "measure-file", file],
    ["composefs-info", "--bas", ".", "--fil=file", "ls", "image"],
    ["composefs-info", "ls", "image", "--", "image"],
    ["composefs-info", "measure-file"],
    ["composefs-info", "measure-file", file, "image", "missing", file],
    ["composefs-info", "measure-file", tree],
    ["composefs-info"],
    mount(),
    mount("image"),
    mount("-t", "ext4", "image", "."),
    mount("-t"),
    mount("-h"),
    mount("-x"),
    mount("image", "."),
    ...MOUNT_OPTIONS.map((options) => mount("-o", options, "image", "missing")),
    mount("-o", "basedir=.", "missing", "."),
    mount("-o", "basedir=.", file, "missing"),
    mount("-o", "basedir=.", "/dev/null", "missing"),
  ];

  test("end with the same output and exit code", async () => {
    mkdirSync(tree);
    writeFileSync(file, "content".repeat(1000));
    mkdirSync(join(whiteouts, "sub"), { recursive: true });
    mknodat(null, join(whiteouts, "sub/gone"), S_IFCHR, 0);
    writeFileSync(dump, "/ 0 40755 2 0 0 0 0.0 - - -\n");
    const { ours, theirs } = await askBoth(LINES);
    expectSame(LINES, ours, theirs);
  });
});
