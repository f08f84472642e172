// The scenario of etc-merge/scenario.sh through our merge, beside what the real ostree made of it.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { lgetxattr, lsetxattr } from "../../../shared/sys/xattr.ts";
import { mergeEtc } from "../../../updater/deploy/etc-merge.ts";
import { makeDirectory, readBack } from "../../support/etc-directories.ts";
import type { FlatTree } from "../../support/etc-trees.ts";

const scratch = mkdtempSync(join(tmpdir(), "etc-vector-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
const letters = ["a", "b", "c", "d", "e", "f", "g", "h"];
const pristine: FlatTree = {
  ...{ "conf.d/a.conf": "a=1", hosts: "127.0.0.1 localhost", l1: "-> target", l2: "-> target" },
  "emptyd/": "",
  ...Object.fromEntries(digits.map((digit) => [`d${digit}/f`, "orig"])),
  ...Object.fromEntries(letters.map((letter) => [`f${letter}`, "orig"])),
};

function without(tree: FlatTree, ...paths: string[]): FlatTree {
  const keep = ([key]: [string, string]) =>
    !paths.some((path) => key === path || key.startsWith(`${path}/`));
  return Object.fromEntries(Object.entries(tree).filter(keep));
}

const next: FlatTree = {
  ...without(pristine, "fc", "d3", "fd", "d8"),
  ...{ fa: "v2", fb: "v2", "d1/newdefault": "new", "d2/newdefault": "new" },
  ...{ "fnewdir/z": "z", "fd/in": "in", d8: "nowfile" },
};

const current: FlatTree = {
  ...without(pristine, "d1", "l2", "emptyd", "d7/f"),
  ...{ fb: "local", fc: "local", "d2/": "@700", "d3/f": "local", "d3/added": "add" },
  ...{ fe: "orig @600", ff: "orig @644:5:6", l1: "-> other", "l2/q": "q", "d6/": "@711" },
  ...{ "d6/f": "local", "n1/": "@750", "n1/n2/f": "n", "nempty/": "@2775", "d7/": "" },
  ...{ dangling: "-> nowhere", fifo: "|", ".updated": "x" },
};

/** result.txt in the flat notation. */
function readResult(): Record<string, string> {
  const text = readFileSync(join(import.meta.dirname, "etc-merge/result.txt"), "utf8");
  const flat: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const match = /^([dfl]) (\d+) (\S+) \.\/(\S+) -> (\S*) ?(.*)$/.exec(line);
    if (match === null) continue;
    const [, type, mode, names, path, target, content] = match as unknown as string[];
    const owner = names === "root:root" ? "" : ":5:6"; // games:disk
    const usual = { d: "755", f: "644", l: "777" }[type!];
    const suffix = mode === usual && owner === "" ? "" : ` @${mode}${owner}`;
    if (type === "d") flat[`${path}/`] = suffix.trim();
    else flat[path!] = type === "l" ? `-> ${target}${suffix}` : `${content!.trim()}${suffix}`;
  }
  return flat;
}

test.skipIf(process.getuid?.() !== 0)(
  "the scenario, as ostree but for what is decided otherwise",
  () => {
    const [p, c, n, out] = ["pristine", "current", "next", "out"].map((name) =>
      join(scratch, name),
    ) as [string, string, string, string];
    makeDirectory(p, pristine);
    makeDirectory(c, current);
    makeDirectory(n, next);
    lsetxattr(join(c, "fg"), "user.x", Buffer.from("y"));
    mergeEtc(p, c, n, out);

    const ours = readBack(out);
    const ostree = readResult();
    expect(Object.keys(ostree).length).toBeGreaterThan(30);
    expect(ours).toEqual({
      ...ostree,
      // A removed directory does not hide what the image newly puts there.
      "d1/": "",
      "d1/newdefault": "new",
      // A change of a directory's mode alone is a change.
      "d2/": "@700",
      // FIFOs are kept.
      fifo: "|",
    });
    // An xattr alone is a change; ostree lost it.
    expect(Buffer.from(lgetxattr(join(out, "fg"), "user.x")!).toString()).toBe("y");
  },
);
