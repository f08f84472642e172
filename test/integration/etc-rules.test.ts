// Rules for /etc from staging to shutdown, on a machine in a directory: they resolve conflicts and make
// some, broken files refuse when staging and never at shutdown, and an overlay on /etc gets its share.

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { makeDirectory, readBack } from "../support/etc-directories.ts";
import { JournalSocket } from "../support/journal-socket.ts";
import { type ScratchImage, writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch } from "../support/scratch-update.ts";

let machine: ScratchMachine;
let imagePath: string;
let first: string;
let running: RunningMachine;

beforeEach(async () => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
  writeScratchImage(imagePath, { version: "1", etc: { f: "1", g: "1", "x.conf": "1" } });
  first = (await installScratch(machine, imagePath)).id;
  running = machine.boot();
});
afterEach(() => {
  running[Symbol.dispose]();
  machine[Symbol.dispose]();
});

const etc = (path = "") => join(statePaths(machine.disk, first).etc, path);
const rule = (path: string, action: string) =>
  `[[rule]]\npath = "/etc/${path}"\naction = "${action}"\n`;
const writeRules = (text: string) => {
  mkdirSync(etc("bootc"), { recursive: true });
  writeFileSync(etc("bootc/etc-merge.toml"), text);
};

/** Members of an image with a drop-in of rules. */
function withDropIn(name: string, text: string): Pick<ScratchImage, "members"> {
  const directories = ["usr/lib/bootc/", "usr/lib/bootc/etc-merge.d/"];
  return {
    members: [
      ...directories.map((path) => ({ name: path, type: "5", mode: 0o755 }) as const),
      { name: `usr/lib/bootc/etc-merge.d/${name}`, content: text },
    ],
  };
}

async function stage(image: Partial<ScratchImage>): Promise<string> {
  writeScratchImage(imagePath, { version: "2", etc: { f: "2", g: "2", "x.conf": "2" }, ...image });
  return await stageScratch(running, imagePath);
}

/** What /etc of `id` is after shutdown, without the rules themselves. */
function shutDown(id: string): Record<string, string> {
  expect(finalizeStaged(running, running.world())).toMatchObject({ id });
  const merged = readBack(statePaths(machine.disk, id).etc);
  return Object.fromEntries(Object.entries(merged).filter(([name]) => !name.startsWith("bootc")));
}

const turned: Partial<ScratchImage> = {
  etc: { g: "2", "x.conf": "2" },
  members: [{ name: "etc/f/", type: "5", mode: 0o755 }],
};
const nothingStaged = () => {
  expect(existsSync(join(machine.run, "composefs/staged-deployment"))).toBe(false);
  expect(readdirSync(join(machine.disk, "state/deploy"))).toEqual([first]);
};

describe("conflicts", () => {
  test("without a rule the update is refused, with path, reason and ways out", async () => {
    writeFileSync(etc("f"), "local");
    await expect(stage(turned)).rejects.toThrow(
      /^Merge conflicts found in etc \(Modified file "f" newly defaults to directory\); take .*"bootc etc reset".*\/etc\/bootc\/etc-merge\.toml$/,
    );
    nothingStaged();
  });

  test.each([
    ["keep", { f: "local", g: "2", "x.conf": "2" }],
    ["image", { "f/": "", g: "2", "x.conf": "2" }],
  ])("%s resolves it", async (action, merged) => {
    writeFileSync(etc("f"), "local");
    writeRules(rule("f", action));
    expect(shutDown(await stage(turned))).toEqual(merged);
  });

  test("fail makes one of a file that both sides changed", async () => {
    writeFileSync(etc("f"), "local");
    writeRules(rule("*", "fail"));
    await expect(stage({})).rejects.toThrow(
      /"f" was changed here, and the image changed it as well \(rule \/etc\/bootc\/etc-merge\.toml:1\)/,
    );
    nothingStaged();
    writeFileSync(etc("f"), "1");
    expect(shutDown(await stage({}))).toEqual({ f: "2", g: "2", "x.conf": "2" });
  });

  test("one that arises after staging keeps the update from being applied, and nothing else", async () => {
    const second = await stage(turned);
    writeFileSync(etc("f"), "local");
    const before = readBack(etc());
    using journal = new JournalSocket(machine.run);
    expect(() => finalizeStaged(running, running.world())).toThrow("Merge conflicts found in etc");
    expect(journal.take()).toMatchObject([{ PRIORITY: "3", BOOTC_DEPLOYMENT: second }]);
    expect(readBack(etc())).toEqual(before);
    expect(running.world().live[0]?.deploymentId).toBe(first);
    // Mended in time, the next try is as good as the first.
    writeFileSync(etc("f"), "1");
    expect(shutDown(second)).toEqual({ "f/": "", g: "2", "x.conf": "2" });
  });
});

describe("where rules come from", () => {
  test("the new image's count, the machine's come after them", async () => {
    for (const name of ["f", "g", "x.conf"]) writeFileSync(etc(name), "local");
    makeDirectory(etc("bootc"), {});
    makeDirectory(etc("bootc/etc-merge.d"), { "20-mine.toml": rule("g", "keep") });
    const second = await stage(withDropIn("10-os.toml", rule("**", "image")));
    expect(shutDown(second)).toEqual({ f: "2", g: "local", "x.conf": "2" });
  });

  test("a drop-in of the machine hides the image's of the same name", async () => {
    writeFileSync(etc("f"), "local");
    makeDirectory(etc("bootc"), {});
    mkdirSync(etc("bootc/etc-merge.d"));
    symlinkSync("/dev/null", etc("bootc/etc-merge.d/10-os.toml"));
    expect(shutDown(await stage(withDropIn("10-os.toml", rule("f", "image"))))).toMatchObject({
      f: "local",
    });
  });

  test.each<[string, string, string]>([
    ["no TOML", "[[rule]\n", '"/etc/bootc/etc-merge.toml:1" is wrong: it is not TOML'],
    [
      "an unknown key",
      `${rule("f", "keep")}why = 1\n`,
      'etc-merge.toml:4" is wrong: unknown key "why"',
    ],
    ["an unknown action", rule("f", "merge"), 'etc-merge.toml:3" is wrong: "action"'],
    ["no UTF-8", "\udc80", "etc-merge.toml"],
  ])("%s refuses when staging", async (_, text, message) => {
    writeRules(text);
    if (text === "\udc80") writeFileSync(etc("bootc/etc-merge.toml"), Buffer.from([0x80]));
    await expect(stage({})).rejects.toThrow(message);
    nothingStaged();
  });

  test("so does a directory, a FIFO or a broken drop-in of the image", async () => {
    makeDirectory(etc("bootc"), { "etc-merge.toml/": "" });
    await expect(stage({})).rejects.toThrow(/etc-merge\.toml.*is not a regular file/);
    rmSync(etc("bootc"), { recursive: true });
    makeDirectory(etc("bootc"), { "etc-merge.toml": "|" });
    await expect(stage({})).rejects.toThrow(/etc-merge\.toml.*is not a regular file/);
    rmSync(etc("bootc"), { recursive: true });
    await expect(stage(withDropIn("1.toml", "x = 1\n"))).rejects.toThrow(
      '"/usr/lib/bootc/etc-merge.d/1.toml (image):1" is wrong: unknown key "x"',
    );
    nothingStaged();
  });
});

describe("at shutdown", () => {
  test("rules that changed after staging count", async () => {
    writeFileSync(etc("f"), "local");
    const second = await stage({});
    writeRules(rule("f", "image"));
    expect(shutDown(second)).toMatchObject({ f: "2" });
  });

  test("broken files leave those that were recorded, and the journal says so", async () => {
    writeFileSync(etc("f"), "local");
    writeRules(rule("f", "image"));
    const second = await stage({});
    const { etcRules } = statePaths(machine.disk, second);
    expect(existsSync(etcRules)).toBe(true);
    writeRules("nonsense");
    using journal = new JournalSocket(machine.run);
    expect(shutDown(second)).toMatchObject({ f: "2" });
    const records = journal.take().filter(({ PRIORITY }) => PRIORITY === "4");
    expect(records.map(({ MESSAGE }) => MESSAGE)).toEqual([
      expect.stringMatching(/^The rules recorded when staging are used for \/etc: .*not TOML/),
    ]);
  });

  test("and a broken record leaves none", async () => {
    writeFileSync(etc("f"), "local");
    writeRules(rule("f", "image"));
    const second = await stage({});
    writeFileSync(statePaths(machine.disk, second).etcRules, "{");
    writeRules("nonsense");
    expect(shutDown(second)).toMatchObject({ f: "local" });
  });
});

test("an image with an overlay on /etc finds the changes in its upper directory", async () => {
  writeFileSync(etc("f"), "local");
  rmSync(etc("g"));
  const settings = "usr/lib/composefs/setup-root-conf.toml";
  const second = await stage({
    members: [
      { name: "usr/lib/composefs/", type: "5", mode: 0o755 },
      { name: settings, content: '[etc]\nmount = "overlay"\n' },
    ],
  });
  const merged = shutDown(second);
  expect(merged).toEqual({
    ...{ f: "local", "x.conf": "2" },
    ...{ "upper/": "", "upper/f": "local", "upper/g": "| @0" },
  });
});
