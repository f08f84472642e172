// Our reading and writing of ostree repositories beside the real ostree 2026.4 (the ostree root): random trees, committed by
// one and read by the other, in every mode of repository. `npm run test:all` takes ten times as many; a
// failure names its seed.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runOurs, runReal, runRealWell } from "../support/ostree-command.ts";
import { changeTree, makeOstreeTree } from "../support/random-ostree-tree.ts";

const TREES = process.env["TEST_ALL"] === undefined ? 12 : 120;
const MODES = ["bare", "archive", "bare-user"] as const;
const seeds = Array.from({ length: TREES }, (_, seed) => seed);

const scratch = mkdtempSync(join(tmpdir(), "oracle-ostree-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const treeOf = (seed: number) => join(scratch, "trees", String(seed));
/** The tree that comes after it. */
const nextOf = (seed: number) => join(scratch, "trees", `${seed}-next`);
const ours = (repo: string, ...argv: string[]) => runOurs(["--repo", join(scratch, repo), ...argv]);

/** Names have line breaks in them, too. */
const sortLines = (text: string) => text.split("\n").sort();

/** Commits of the trees and of what follows them, by the real ostree. */
const commits: { readonly first: string; readonly second: string }[] = [];

beforeAll(async () => {
  mkdirSync(join(scratch, "trees"));
  for (const seed of seeds) makeOstreeTree(treeOf(seed), seed);
  const copies = seeds.map((seed) => `cp -a trees/${seed} trees/${seed}-next`);
  await runRealWell(scratch, copies);
  for (const seed of seeds) changeTree(nextOf(seed), seed + 5000);
  await runRealWell(scratch, [
    ...MODES.map((mode) => `ostree --repo=${mode} init --mode=${mode}`),
    "ostree --repo=bare-user-only init --mode=bare-user-only",
  ]);
  const made = await runRealWell(
    scratch,
    seeds.flatMap((seed) => [
      `ostree --repo=bare commit -b t/${seed} --tree=dir=trees/${seed} -s 'tree ${seed}' --timestamp=@17000000${seed}`,
      `ostree --repo=bare commit -b t/${seed} --tree=dir=trees/${seed}-next -s next -m $'two\\nlines' --add-metadata-string=version=${seed} --timestamp=@1700000777`,
    ]),
  );
  for (const seed of seeds) commits.push({ first: made[2 * seed]!, second: made[2 * seed + 1]! });
  const refs = seeds.map((seed) => `t/${seed}`).join(" ");
  await runRealWell(scratch, [
    ...["archive", "bare-user"].map(
      (repo) => `ostree --repo=${repo} pull-local --depth=1 bare ${refs}`,
    ),
    ...seeds.map(
      (seed) =>
        `ostree --repo=bare-user-only commit --canonical-permissions --no-xattrs -b t/${seed} --tree=dir=trees/${seed} --timestamp=@1`,
    ),
  ]);
});

describe.each([...MODES, "bare-user-only"])("of a repository in mode %s", (mode) => {
  test("every object is good", async () => {
    const lines = await ours(mode, "verify");
    expect(lines.at(-1)).toBe(`Repository "${join(scratch, mode)}" has no problems`);
  });

  test("listings, with checksums and attributes, agree", async () => {
    const real = await runRealWell(
      scratch,
      seeds.map((seed) => `ostree --repo=${mode} ls -RCX t/${seed}`),
    );
    for (const seed of seeds) {
      const lines = await ours(mode, "ls", "-RCX", `t/${seed}`);
      expect(lines.join("\n"), `seed ${seed}`).toBe(real[seed]);
    }
  });
});

describe("commits", () => {
  test("are shown alike", async () => {
    const lines = seeds.flatMap((seed) => [
      `show t/${seed}`,
      `log t/${seed}`,
      `rev-parse t/${seed}^`,
    ]);
    const real = await runRealWell(
      scratch,
      lines.map((line) => `ostree --repo=archive ${line}`),
    );
    for (const [i, line] of lines.entries()) {
      if (line.startsWith("rev-parse")) continue;
      expect((await ours("archive", ...line.split(" "))).join("\n").trimEnd()).toBe(real[i]);
    }
    const refs = await ours("archive", "refs");
    expect(refs.sort()).toEqual(seeds.map((seed) => `${commits[seed]!.second} t/${seed}`).sort());
  });

  test("differ alike", async () => {
    const real = await runRealWell(
      scratch,
      seeds.map((seed) => `ostree --repo=bare diff t/${seed}^ t/${seed}`),
    );
    let count = 0;
    for (const seed of seeds) {
      const lines = await ours("archive", "diff", `t/${seed}^`, `t/${seed}`);
      expect(sortLines(lines.join("\n")), `seed ${seed}`).toEqual(sortLines(real[seed]!));
      expect(await ours("bare", "diff", `t/${seed}`)).toEqual(lines);
      count += lines.length;
    }
    expect(count).toBeGreaterThan(TREES);
  });

  test("of ours have the checksums of ostree's, and ostree finds no fault", async () => {
    await ours("native", "init");
    for (const seed of seeds) {
      const head = ["commit", "-b", `t/${seed}`, "--tree"];
      const subject = ["-s", `tree ${seed}`, "--timestamp", `@17000000${seed}`];
      expect(await ours("native", ...head, treeOf(seed), ...subject)).toEqual([
        commits[seed]!.first,
      ]);
      const more = ["-s", "next", "-m", "two\nlines", "--add-metadata-string", `version=${seed}`];
      const parent = ["--parent", `t/${seed}`, "--timestamp", "1700000777"];
      expect(await ours("native", ...head, nextOf(seed), ...more, ...parent)).toEqual([
        commits[seed]!.second,
      ]);
    }
    const [, refs, listing] = await runRealWell(scratch, [
      "ostree --repo=native fsck",
      "ostree --repo=native refs | sort",
      "ostree --repo=native ls -RCX t/0",
    ]);
    expect(refs!.split("\n")).toEqual(seeds.map((seed) => `t/${seed}`).sort());
    expect(listing).toBe((await ours("bare", "ls", "-RCX", "t/0")).join("\n"));
    expect((await ours("native", "verify")).at(-1)).toContain("no problems");
  });
});

describe("images", () => {
  test("are those of ostree, byte for byte", async () => {
    await runRealWell(
      scratch,
      seeds.flatMap((seed) => [
        `ostree --repo=bare checkout --composefs t/${seed} real-${seed}.cfs`,
        `ostree --repo=bare checkout --composefs-noverity t/${seed} real-${seed}-nv.cfs`,
      ]),
    );
    for (const seed of seeds) {
      for (const mode of MODES) {
        const file = join(scratch, "own.cfs");
        await ours(mode, "image", `t/${seed}`, file);
        const real = readFileSync(join(scratch, `real-${seed}.cfs`));
        expect(readFileSync(file).equals(real), `seed ${seed}`).toBe(true);
        await ours(mode, "image", "--no-verity", `t/${seed}`, file);
        const without = readFileSync(join(scratch, `real-${seed}-nv.cfs`));
        expect(readFileSync(file).equals(without), `seed ${seed}`).toBe(true);
      }
    }
  });

  test("have the digest that ostree puts into a commit", async () => {
    const options = "-s x --timestamp=@5 --tree=dir=trees/1";
    const [real] = await runRealWell(scratch, [
      `ostree --repo=bare commit -b with --generate-composefs-metadata ${options} >/dev/null; ostree --repo=bare show --print-metadata-key=ostree.composefs.digest.v0 with`,
    ]);
    const digest = [...real!.matchAll(/0x(..)/g)].map((match) => match[1]).join("");
    expect(await ours("archive", "image", commits[1]!.first)).toEqual([digest]);
    const own = ["-b", "with", "--composefs", "-s", "x", "--timestamp", "5"];
    await ours("native", "commit", ...own, "--tree", treeOf(1));
    const shown = JSON.parse((await ours("native", "show", "--json", "with"))[0]!);
    const printed = [...digest.matchAll(/../g)].map(([byte]) => `0x${byte}`).join(", ");
    expect(shown.metadata["ostree.composefs.digest.v0"]).toBe(`[byte ${printed}]`);
  });
});

test("ostree goes on with a repository of ours", async () => {
  const answers = await runReal(scratch, [
    "ostree --repo=native commit -b t/0 --tree=dir=trees/1 --timestamp=@9",
    "ostree --repo=native fsck",
    "ostree --repo=native prune --refs-only --depth=0",
    "ostree --repo=native fsck",
  ]);
  expect(answers.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  expect((await ours("native", "verify")).at(-1)).toContain("no problems");
});
