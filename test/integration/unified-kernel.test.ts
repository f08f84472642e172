// Machines in a directory that start unified kernels: installed, updated, switched from plain ones and back, cleaned,
// checked and mended; what is refused, and what every refusal says (docs/boot-loaders.md, decision 0020).

import { createHash } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkRepository } from "../../shared/store/fsck.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { inspectHost, repairHost } from "../../updater/deploy/host-repair.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { checkImages } from "../../updater/image/image-check.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch, updateScratch } from "../support/scratch-update.ts";
import { buildUki, MACHINE_AT } from "../support/uki-builder.ts";
import {
  measureScratchImage,
  type UnifiedScratchImage,
  writeUnifiedImage,
} from "../support/unified-image.ts";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

const SEALED = { cmdline: "rw composefs=?ID" };
const write = (version: string, changes: Partial<UnifiedScratchImage> = {}) =>
  writeUnifiedImage(imagePath, { version, ...SEALED, ...changes });
const plain = { rootMountSpec: "", kargs: [] };
const install = (changes = {}) => installScratch(machine, imagePath, { ...plain, ...changes });

const stage = (running: RunningMachine, allowWeakerTrust = false) =>
  stageScratch(running, imagePath, { allowWeakerTrust });

/** Stages, shuts down and starts; the new machine is the caller's to close. */
async function update(running: RunningMachine, allowWeaker = false): Promise<RunningMachine> {
  await stage(running, allowWeaker);
  finalizeStaged(running, running.world());
  running[Symbol.dispose]();
  return machine.boot();
}

const esp = (...names: string[]) => join(machine.esp, ...names);
const list = (...names: string[]) =>
  existsSync(esp(...names)) ? readdirSync(esp(...names)).sort() : null;
const UKIS = "EFI/Linux/bootc";
const nameOf = (id: string) => `bootc_composefs-${id}.efi`;
const readEntry = (fileName: string) => readFileSync(esp("loader/entries", fileName), "utf8");
const clean = (running: RunningMachine) => {
  const world = running.world();
  return applyCleanup(running, planCleanup(world, readCleanupScope(running.repo, world)), {
    dryRun: false,
  });
};
const message = (promise: Promise<unknown>) =>
  promise.then(
    () => "no error",
    (error: Error) => error.message,
  );

test("sealed: installed, updated, rolled back, cleaned", async () => {
  const { id: a } = await write("1");
  const plan = await install();
  expect(plan.id).toBe(a);
  expect(list(UKIS)).toEqual([nameOf(a)]);
  expect(readEntry("bootc_fedora-1-1.conf")).toBe(
    `title Fedora 1\nversion 1\nefi /${UKIS}/${nameOf(a)}\nsort-key bootc-fedora-0\n`,
  );
  const kernel = Buffer.concat([
    Buffer.from("kernel 1".repeat(40)),
    Buffer.from("initramfs ".repeat(50)),
  ]);
  const digest = createHash("sha256").update(kernel).digest("hex");
  const state = join(machine.disk, "state/deploy", a);
  expect(readFileSync(join(state, `${a}.origin`), "utf8")).toContain(
    `[boot]\nboot_type=uki\ndigest=${digest}\n`,
  );
  expect(readFileSync(join(state, `${a}.addons`), "utf8")).toBe("[]\n");

  const { id: b } = await write("2");
  let running = await update(machine.boot());
  expect(running.booted).toEqual({ id: b, verityOptional: true });
  expect(list(UKIS)).toEqual([nameOf(a), nameOf(b)].sort());
  const host = makeHostState(running.system, running.repo, running.world());
  expect(host).toMatchObject({
    booted: { id: b, bootType: "uki", missingVerityAllowed: true },
    rollback: { id: a, bootType: "uki" },
    problems: [],
  });
  expect(inspectHost(running, running.booted, false)).toEqual([]);

  const { id: c } = await write("3");
  running = await update(running);
  clean(running);
  expect(list(UKIS)).toEqual([nameOf(b), nameOf(c)].sort());
  applyRollback(running, planRollback(running.world()));
  running[Symbol.dispose]();
  using back = machine.boot();
  expect(back.booted.id).toBe(b);
});

test("the other format's id, both keys, and an id of another algorithm are fine", async () => {
  const cmdline = `composefs=${"0".repeat(64)} composefs.digest=?v2-sha512-12:ID2 composefs=?ID`;
  const { id2 } = await write("1", { cmdline });
  expect((await install()).id).toBe(id2);
  using running = machine.boot();
  expect(running.booted.id).toBe(id2);
  expect(inspectHost(running, running.booted, false)).toEqual([]);
  // The image in this format is the tag's, too.
  clean(running);
  expect((await checkImages(running.repo, { metadataOnly: false })).findings).toEqual([]);
  expect(checkRepository(running.repo, { metadataOnly: false }).findings).toEqual([]);
});

test("without command line: the entry has the arguments, and they are carried on", async () => {
  await write("1", { cmdline: null, kargs: 'kargs = ["image=1"]' });
  await install({ rootMountSpec: "UUID=1", kargs: ["own"] });
  const { id: b } = await write("2", { cmdline: null, kargs: 'kargs = ["image=2"]' });
  using running = await update(machine.boot());
  const trial = "panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot";
  expect(readEntry("bootc_fedora-2-1.conf")).toBe(
    `title Fedora 2\nversion 2\nefi /${UKIS}/${nameOf(b)}\n` +
      `options root=UUID=1 rw own composefs=?${b} ${trial} image=2\n` +
      `sort-key bootc-fedora-0\nx-options-source-bootc ${trial}\n`,
  );
  expect(running.booted.id).toBe(b);
});

test("from a plain kernel to a sealed one and back", async () => {
  writeScratchImage(imagePath, { version: "1" });
  await installScratch(machine, imagePath);
  const { id: b } = await write("2");
  const first = machine.boot();
  expect(await updateScratch(first, imagePath)).toMatchObject({
    kind: "staged",
    id: b,
    droppedArguments: "root=UUID=1234 console=ttyS0",
  });
  finalizeStaged(first, first.world());
  first[Symbol.dispose]();
  let running = machine.boot();
  expect(running.booted.id).toBe(b);
  writeScratchImage(imagePath, { version: "3" });
  running = await update(running, true);
  expect(running.world().live[0]).toMatchObject({
    entry: { target: { kind: "linux" }, options: expect.stringMatching(/^rw composefs=\?/) },
  });
  clean(running);
  expect(list(UKIS)).toEqual([nameOf(b)]);
  running[Symbol.dispose]();
});

describe("what does not match is not staged", () => {
  const cut = (text: string) => text.replaceAll(/[0-9a-f]{128}/g, (id) => id.slice(0, 4));
  beforeEach(async () => {
    writeScratchImage(imagePath, { version: "1" });
    await installScratch(machine, imagePath);
  });

  async function refuse(changes: Partial<UnifiedScratchImage>): Promise<string> {
    await write("2", changes);
    using running = machine.boot();
    const before = [list(UKIS), list("loader/entries"), list("loader/entries.staged")];
    const text = await message(stage(running));
    expect([list(UKIS), list("loader/entries"), list("loader/entries.staged")]).toEqual(before);
    expect(existsSync(join(machine.run, "composefs/staged-deployment"))).toBe(false);
    return text;
  }

  test.each<[string, Partial<UnifiedScratchImage>, RegExp]>([
    [
      "another image, without a listing",
      { cmdline: `composefs=${"a".repeat(128)}` },
      /was sealed for: its command line has composefs aaaa.*, the image is [0-9a-f]{4} \(V1\) or [0-9a-f]{4} \(V2\); to see where they differ, seal it with "bootc container ukify --write-dumpfile-to \/boot\/EFI\/Linux\/os.efi.dump"/,
    ],
    [
      "a changed file: the first difference",
      {
        cmdline: `composefs=${"a".repeat(128)}`,
        members: [{ name: "usr/lib/zz", content: "new" }],
        dumpOf: [{ name: "usr/lib/zz", content: "older" }],
      },
      /the first difference is "\/usr\/lib\/zz": sealed "\/usr\/lib\/zz 5 .*", here "\/usr\/lib\/zz 3 .*"; seal the image after its last change/,
    ],
    [
      "a file that was added later",
      {
        cmdline: `composefs=${"a".repeat(128)}`,
        members: [{ name: "usr/lib/added", content: "new" }],
        dumpOf: [],
      },
      /the first difference is "\/usr\/lib\/added": sealed not there, here "\/usr\/lib\/added 3/,
    ],
    [
      "a listing that is right",
      { cmdline: `composefs=${"a".repeat(128)}`, dumpOf: [] },
      /os.efi.dump" lists the very same tree/,
    ],
    ["one of two", { cmdline: `composefs=ID composefs=${"a".repeat(128)}` }, /has composefs aaaa/],
    [
      "only an id of another algorithm",
      { cmdline: `composefs=${"b".repeat(64)}` },
      /has composefs bbbb/,
    ],
    [
      "fs-verity that is not there",
      { cmdline: "composefs=ID" },
      /nothing without fs-verity, and ".*composefs" was made without it; seal the image with "--allow-missing-verity"/,
    ],
    ["no image", { cmdline: "quiet" }, /names no image: build it with "bootc container ukify"/],
    ["an empty command line", { cmdline: "\n" }, /names no image/],
    [
      "a malformed one",
      { cmdline: "composefs=xyz" },
      /command line in "\/boot\/EFI\/Linux\/os.efi" is wrong/,
    ],
    ["below /usr", { place: "usr/lib/modules/6.12-2/os" }, /must be in \/boot\/EFI\/Linux/],
    [
      "an addon that cannot be written",
      { addons: { "a b.addon.efi": "" } },
      /Addon ".*a b.addon.efi" of the image cannot be written/,
    ],
  ])("%s", async (_, changes, expected) => {
    expect(cut(await refuse(changes))).toMatch(expected);
  });

  test.each(["composefs", "composefs.digest", "ostree"])(
    "an addon that says which image starts: %s=",
    async (key) => {
      const text = await refuse({ addons: { "a.addon.efi": `quiet ${key}=/ostree/x` } });
      expect(text).toBe(
        `Addon "a.addon.efi" of the image has "${key}=/ostree/x": only the kernel, or its boot entry, says which image starts; build the addon without it`,
      );
    },
  );

  const place = (content: Uint8Array | string, name = "boot/EFI/Linux/os.efi") => ({
    version: "2",
    members: [
      ...["boot/EFI/", "boot/EFI/Linux/"].map((path) => ({ name: path, type: "5", mode: 0o755 })),
      typeof content === "string"
        ? { name, type: "2", linkName: content }
        : { name, content: Buffer.from(content) },
    ],
  });

  async function refuseKernel(content: Uint8Array | string): Promise<string> {
    writeScratchImage(imagePath, place(content));
    using running = machine.boot();
    return await message(stage(running));
  }

  test("a kernel for other machines", async () => {
    const kernel = Buffer.from(buildUki([[".linux", "kernel"]]));
    kernel.writeUInt16LE(process.arch === "x64" ? 0xaa64 : 0x8664, MACHINE_AT);
    expect(await refuseKernel(kernel)).toMatch(
      /^"\/boot\/EFI\/Linux\/os.efi" of the image is for \w+ machines, and this is one for \w+: build/,
    );
  });

  test("a link, which would leave the image with the kernel beside it", async () => {
    expect(await refuseKernel("../../../usr/lib/modules/6.12-2/vmlinuz")).toBe(
      'Image has a link where a unified kernel should be, "/boot/EFI/Linux/os.efi"; put the file itself there',
    );
  });

  test("a command line that ends before it ends", async () => {
    const { id } = await measureScratchImage({ version: "2" });
    const kernel = buildUki([
      [".cmdline", `quiet\0 composefs=?${id}`],
      [".linux", "kernel"],
    ]);
    expect(await refuseKernel(kernel)).toContain("has a zero byte inside, where it would end");
  });

  test("another profile that starts another image; one without any is fine", async () => {
    const { id } = await measureScratchImage({ version: "2" });
    const profiles = (second: string) =>
      buildUki([
        [".cmdline", `composefs=?${id}`],
        [".linux", "kernel"],
        [".profile", "ID=main"],
        [".profile", "ID=other"],
        [".cmdline", second],
      ]);
    expect(await refuseKernel(profiles(`composefs=${"a".repeat(128)}`))).toContain(
      "was sealed for: its command line has composefs aaaa",
    );
    writeScratchImage(imagePath, place(profiles("rd.systemd.unit=storage-target-mode.target")));
    using running = machine.boot();
    expect(await stage(running)).toBe(id);
  });

  test("an addon that is no program", async () => {
    const members = [
      { name: "boot/loader/", type: "5", mode: 0o755 },
      { name: "boot/loader/addons/", type: "5", mode: 0o755 },
      { name: "boot/loader/addons/bootc-x.addon.efi", content: "text" },
    ];
    expect(await refuse({ members })).toBe('"bootc-x.addon.efi" is no unified kernel');
  });

  test("no unified kernel at all", async () => {
    writeScratchImage(imagePath, {
      version: "2",
      members: [
        { name: "boot/EFI/", type: "5", mode: 0o755 },
        { name: "boot/EFI/Linux/", type: "5", mode: 0o755 },
        { name: "boot/EFI/Linux/os.efi", content: "MZ no more than that" },
      ],
    });
    using running = machine.boot();
    expect(await message(stage(running))).toBe('"/boot/EFI/Linux/os.efi" is no unified kernel');
  });
});

describe("installation", () => {
  test.each([
    ["--karg", { kargs: ["a"] }],
    ["--karg-delete", { kargDeletes: ["a"] }],
    ["--root-mount-spec", { rootMountSpec: "UUID=1" }],
    ["--boot-mount-spec", { bootMountSpec: "UUID=1" }],
  ])("%s does not go with a sealed kernel; nothing stays of the attempt", async (option, given) => {
    await write("1");
    const text = await message(install(given));
    expect(text).toContain(
      `takes no other arguments (given: ${option}): leave them out; the root is found by`,
    );
    expect(list(UKIS)).toEqual(null);
    expect(existsSync(join(machine.disk, "composefs"))).toBe(false);
  });

  test("a failure later takes the kernel and its addons away again", async () => {
    await write("1", {
      addons: { "a.addon.efi": "a" },
      globalAddons: { "bootc-x.addon.efi": "x" },
    });
    mkdirSync(esp("loader/entries/bootc_fedora-1-1.conf/x"), { recursive: true });
    expect(await message(install())).not.toBe("no error");
    expect(list(UKIS)).toEqual([]);
    expect(list("loader/addons")).toEqual([]);
  });

  test("--uki-addon chooses, and the choice lasts", async () => {
    const addons = { "a.addon.efi": "a", "b.addon.efi": "b" };
    const { id } = await write("1", { addons });
    expect(await message(install({ ukiAddons: ["c"] }))).toMatch(
      /no addon "c.addon.efi"; it has a\./,
    );
    await install({ ukiAddons: ["b"] });
    expect(list(UKIS, `${nameOf(id)}.extra.d`)).toEqual(["b.addon.efi"]);
    const { id: next } = await write("2", { addons: { ...addons, "c.addon.efi": "c" } });
    using running = await update(machine.boot());
    expect(list(UKIS, `${nameOf(next)}.extra.d`)).toEqual(["b.addon.efi", "c.addon.efi"]);
    expect(running.system.cmdline).toBe(`rw composefs=?${next} b c`);
  });
});

test("addons that an administrator put beside the kernel go on to the next, which follows its image", async () => {
  const { id } = await write("1", { addons: { "image.addon.efi": "old", "gone.addon.efi": "x" } });
  await install();
  const directory = esp(UKIS, `${nameOf(id)}.extra.d`);
  const own = buildUki([[".cmdline", "own=1"]]);
  writeFileSync(join(directory, "own.addon.efi"), own);
  const { id: next } = await write("2", { addons: { "image.addon.efi": "new" } });
  const running = await update(machine.boot());
  const carried = esp(UKIS, `${nameOf(next)}.extra.d`);
  expect(readdirSync(carried).sort()).toEqual(["image.addon.efi", "own.addon.efi"]);
  expect(readFileSync(join(carried, "own.addon.efi")).equals(own)).toBe(true);
  expect(running.system.cmdline).toBe(`rw composefs=?${next} new own=1`);
  // Removed by hand, it does not come back.
  rmSync(join(carried, "own.addon.efi"));
  const { id: third } = await write("3", { addons: { "image.addon.efi": "new" } });
  using last = await update(running);
  expect(list(UKIS, `${nameOf(third)}.extra.d`)).toEqual(["image.addon.efi"]);
  clean(last);
  expect(list(UKIS)).toEqual(
    [next, third].flatMap((each) => [nameOf(each), `${nameOf(each)}.extra.d`]).sort(),
  );
});

test("staged once more: what is not wanted any more goes, nothing else", async () => {
  await write("1");
  await install();
  const { id } = await write("2", { addons: { "a.addon.efi": "a" } });
  using running = machine.boot();
  await stage(running);
  const directory = esp(UKIS, `${nameOf(id)}.extra.d`);
  writeFileSync(join(directory, "stray.addon.efi"), "x");
  rmSync(join(machine.run, "composefs/staged-deployment"));
  await stage(running);
  expect(readdirSync(directory)).toEqual(["a.addon.efi"]);
});

test("addons for every kernel: shared, never replaced, collected; others' are left alone", async () => {
  const x = "bootc-runtime-00.addon.efi";
  mkdirSync(esp("loader/addons"), { recursive: true });
  writeFileSync(esp("loader/addons/foreign.addon.efi"), buildUki([[".cmdline", "foreign"]]));
  await write("1", { globalAddons: { [x]: "one", "other.addon.efi": "not ours" } });
  const { id: a } = await install();
  expect(list("loader/addons")).toEqual([x, "foreign.addon.efi"]);
  const first = readFileSync(esp("loader/addons", x));

  // The same executable, signed anew: other bytes.
  await write("2", { globalAddons: { [x]: "two" } });
  let running = await update(machine.boot());
  const renamed = /^bootc-runtime-00-[0-9a-f]{8}\.addon\.efi$/;
  expect(list("loader/addons")).toEqual([expect.stringMatching(renamed), x, "foreign.addon.efi"]);
  expect(readFileSync(esp("loader/addons", x)).equals(first)).toBe(true);
  const second = list("loader/addons")![0]!;
  const record = join(
    machine.disk,
    "state/deploy",
    running.booted.id,
    `${running.booted.id}.addons`,
  );
  expect(JSON.parse(readFileSync(record, "utf8"))).toEqual([second]);

  await write("3", { globalAddons: { [x]: "two" } });
  running = await update(running);
  clean(running);
  // The first deployment is gone, and what only it needed.
  expect(existsSync(join(machine.disk, "state/deploy", a))).toBe(false);
  expect(list("loader/addons")).toEqual([second, "foreign.addon.efi"]);
  expect(inspectHost(running, running.booted, false)).toEqual([]);
  running[Symbol.dispose]();
});

describe("checked and mended", () => {
  let running: RunningMachine;
  let id: string;
  const x = "bootc-x.addon.efi";
  beforeEach(async () => {
    await write("1");
    await install();
    ({ id } = await write("2", { globalAddons: { [x]: "x" }, addons: { "a.addon.efi": "a" } }));
    running = await update(machine.boot());
  });
  afterEach(() => running[Symbol.dispose]());
  const findings = () => inspectHost(running, running.booted, false);
  const repair = () => repairHost(running, running.booted, false, () => {});

  test.each<[string, string, () => void]>([
    ["kernel-missing", "copy-uki", () => rmSync(esp(UKIS, nameOf(id)))],
    ["kernel-damaged", "copy-uki", () => appendFileSync(esp(UKIS, nameOf(id)), "x")],
    [
      "kernel-damaged",
      "copy-uki",
      () => writeFileSync(esp(UKIS, nameOf(id)), "MZ no more than that"),
    ],
    ["addon-missing", "copy-addon", () => rmSync(esp("loader/addons", x))],
    ["addon-damaged", "copy-addon", () => appendFileSync(esp("loader/addons", x), "x")],
    ["entry-missing", "write-entry", () => rmSync(esp("loader/entries/bootc_fedora-2-1.conf"))],
    ["leftover", "remove-stray", () => mkdirSync(esp(UKIS, `${nameOf("d".repeat(128))}.extra.d`))],
  ])("%s: %s", (kind, step, damage) => {
    damage();
    const found = findings();
    expect(found.map((finding) => finding.kind)).toEqual([kind]);
    expect(found[0]?.steps.map((each) => each.kind)).toEqual([step]);
    const { steps, remaining } = repair();
    expect(steps.map(({ error }) => error)).toEqual([null]);
    expect(remaining).toEqual([]);
    expect(running.world().live.map(({ cmdline }) => cmdline)).toContain(`rw composefs=?${id}`);
  });

  test("a kernel that starts something else than its entry says", () => {
    const other = buildUki([
      [".cmdline", `composefs=?${"c".repeat(128)}`],
      [".linux", "kernel"],
    ]);
    writeFileSync(esp(UKIS, nameOf(id)), other);
    const found = inspectHost(running, running.booted, true);
    expect(found).toMatchObject([
      {
        kind: "kernel-wrong",
        problem: `It starts deployment cccccccccccc, and bootc_fedora-2-1.conf is of ${id.slice(0, 12)}`,
      },
    ]);
    expect(repair().remaining).toEqual([]);
  });
});
