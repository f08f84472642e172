// Signed images on a machine in a directory: what is staged and installed, what starts, how the version floor
// rises, what revocation does, and what status says. Starts are judged by prepare-root's own code, so the
// two halves have to agree.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PolicyError } from "../../shared/error.ts";
import { parseSignedStatement } from "../../shared/format/trust/statement.ts";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { describeStage, formatPlan } from "../../updater/cli/plan-text.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { requireStartable } from "../../updater/deploy/host-trust.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { beginSettlement, settleTrust } from "../../updater/deploy/trust-settlement.ts";
import { type UpdateRequest, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { sign, trustKey } from "../support/trust-place.ts";
import { type TrustedImage, TrustedImages } from "../support/trusted-machine.ts";

const quiet = { onProgress: () => {}, onStep: () => {} };
const SIGNED: TrustedImage = { version: "1", keys: ["vendor"], signers: ["vendor"] };

let machine: ScratchMachine;
let images: TrustedImages;
let path: string;
beforeEach(() => {
  machine = new ScratchMachine();
  images = new TrustedImages(machine);
  path = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

function put(image: Partial<TrustedImage> & { readonly version: string }, number?: number) {
  const statement =
    number === undefined ? image.statement : { ...image.statement, version: number };
  return images.write(path, { ...image, ...(statement && { statement }) });
}

function update(running: RunningMachine, changes: Partial<UpdateRequest> = {}) {
  const reference = makeImageReference("oci", path);
  const request: UpdateRequest = {
    ...{ kind: "upgrade", reference, source: openSource(reference) },
    ...{ checkOnly: false, downloadOnly: false, dryRun: false },
    ...changes,
  };
  return updateImage(running, running.booted, request, quiet);
}

/** The code and text of a refusal. */
async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof PolicyError) return `${error.code}: ${error.message}`;
  throw error ?? new Error("it was not refused");
}

const states = () => readdirSync(join(machine.disk, "state/deploy")).sort();
const statementOf = (id: string) => readFileSync(statePaths(machine.disk, id).statement, "utf8");
const versionOf = (text: string) => parseSignedStatement(Buffer.from(text), "x").statement.version;
const espFloor = () => {
  const file = join(machine.esp, ESP_FLOOR_FILE);
  return existsSync(file) ? versionOf(readFileSync(file, "utf8")) : null;
};
const marker = () => join(machine.disk, "state/bootc/trust-unsettled");
const hostOf = (running: RunningMachine) =>
  makeHostState(running.system, running.repo, running.world());

async function install(image: TrustedImage = SIGNED, number = 5): Promise<string> {
  const id = await put(image, number);
  await installScratch(machine, path);
  return id;
}

/** Updates, restarts, and lets the new deployment prove itself. */
async function advance(running: RunningMachine, changes: Partial<UpdateRequest> = {}) {
  const { kind } = await update(running, changes);
  expect(kind).toBe("staged");
  finalizeStaged(running, running.world());
  running[Symbol.dispose]();
  return images.boot();
}

describe("installing", () => {
  test("a signed image: its statement lies with its state, and prepare-root takes it", async () => {
    const id = await install();
    expect(versionOf(statementOf(id))).toBe(5);
    using running = images.boot();
    expect(hostOf(running).booted?.trust).toEqual({
      ...{ mode: "signed", sealed: false, version: 5, expires: null, refusal: null },
      key: { name: "vendor.pub", fingerprint: trustKey("vendor").fingerprint },
      verity: "none",
    });
  });

  test.each<[string, TrustedImage, RegExp]>([
    ["not signed", { version: "1", keys: ["vendor"] }, /^unsigned: .*cannot be deployed/],
    ["signed by another", { ...SIGNED, signers: ["thief"] }, /^untrusted-key: /],
    [
      "expired",
      { ...SIGNED, statement: { expires: "2020-01-01T00:00:00Z" } },
      /^expired: .*2020-01-01/,
    ],
    [
      "without fs-verity, which its initramfs will want",
      { ...SIGNED, conf: ["allow-missing-verity=false"] },
      /^rejected: .*only where fs-verity protects it/,
    ],
    [
      "with a trust directory that is wrong",
      { ...SIGNED, conf: ["counter=dice"] },
      /^rejected: .*dice/,
    ],
  ])("%s: refused, and the target is empty again", async (_, image, expected) => {
    await put(image);
    expect(await refusal(installScratch(machine, path))).toMatch(expected);
    expect(readdirSync(machine.disk)).toEqual([]);
  });

  test("below the floor that is on the ESP already", async () => {
    await install(SIGNED, 9);
    images.boot()[Symbol.dispose]();
    {
      using running = images.boot();
      expect(settleTrust(running, running.world())).toMatchObject({ raised: { version: 9 } });
    }
    for (const name of readdirSync(machine.disk))
      rmSync(join(machine.disk, name), { recursive: true });
    for (const name of ["loader", "EFI/Linux"])
      rmSync(join(machine.esp, name), { recursive: true });
    await put(SIGNED, 8);
    expect(await refusal(installScratch(machine, path))).toMatch(/^downgrade: .*below 9/);
  });

  test("an unlocked image asks for nothing", async () => {
    const id = await install({ version: "1" });
    expect(existsSync(statePaths(machine.disk, id).statement)).toBe(false);
    using running = images.boot();
    const host = hostOf(running);
    expect(host.booted?.trust).toMatchObject({ mode: "unlocked", key: null, version: null });
    expect(host.trust).toEqual({
      ...{ secureBoot: "unsupported", tpm: false },
      floor: { version: null, source: "none" },
      next: {
        mode: "signed",
        needs: [expect.stringMatching(/keys\.d/), expect.stringMatching(/verity/)],
      },
    });
    expect(host.problems).toEqual([]);
  });
});

describe("updating a machine of signed images", () => {
  test.each<[string, Partial<TrustedImage>, RegExp]>([
    ["not signed", { keys: ["vendor"] }, /^unsigned: /],
    ["signed by another", { keys: ["thief"], signers: ["thief"] }, /^untrusted-key: /],
    ["unlocked", {}, /^unsigned: .*--allow-weaker-trust/],
    ["signed, but unlocked", { signers: ["vendor"] }, /^rejected: .*nothing would check it/],
    [
      "expired",
      { ...SIGNED, statement: { expires: "2020-01-01T00:00:00Z", version: 9 } },
      /^expired: /,
    ],
  ])("%s is refused and leaves nothing behind", async (_, image, expected) => {
    const id = await install();
    using running = images.boot();
    await put({ ...image, version: "2" });
    const before = states();
    expect(await refusal(update(running))).toMatch(expected);
    expect(states()).toEqual(before);
    expect(existsSync(join(machine.run, "composefs/staged-deployment"))).toBe(false);
    expect(existsSync(join(machine.esp, "loader/entries.staged"))).toBe(false);
    expect(hostOf(running).booted?.id).toBe(id);
  });

  test.each<[string, Partial<TrustedImage>, "unlocked" | "signed"]>([
    ["unlocked", {}, "unlocked"],
    ["signed by another", { keys: ["thief"], signers: ["thief"] }, "signed"],
  ])("%s with --allow-weaker-trust", async (_, image, mode) => {
    await install();
    const first = images.boot();
    await put({ ...image, version: "2" }, image.signers === undefined ? undefined : 9);
    using running = await advance(first, { allowWeakerTrust: true });
    const host = hostOf(running);
    expect(host.booted?.trust).toMatchObject({ mode, refusal: null });
    expect(host.rollback?.trust).toMatchObject({ mode: "signed", version: 5 });
  });

  test("what would not start is not staged by any option", async () => {
    await install();
    using running = images.boot();
    await put({ version: "2", keys: ["vendor"] });
    const text = await refusal(update(running, { allowWeakerTrust: true }));
    expect(text).toMatch(/^unsigned: .*its own initramfs would refuse it/);
  });

  test("a dry run tells the key, the version and the floor", async () => {
    await install();
    using running = images.boot();
    settleTrust(running, running.world());
    await put({ ...SIGNED, version: "2" }, 6);
    const outcome = await update(running, { dryRun: true });
    if (outcome.kind !== "planned") throw new Error(outcome.kind);
    expect(JSON.parse(formatPlan(describeStage(outcome.preparation)))).toMatchObject({
      trust: {
        ...{ form: "signed", version: 6, expires: null, warnings: [] },
        key: { name: "vendor.pub", fingerprint: trustKey("vendor").fingerprint },
        floor: { version: 5, source: "esp" },
      },
    });
    expect(outcome).toMatchObject({
      kind: "planned",
      preparation: {
        trust: {
          image: { form: "signed" },
          judgement: { statement: { version: 6 } },
          floor: { value: 5, source: "esp" },
        },
      },
    });
  });
});

describe("the version floor", () => {
  test("rises with what stays in the menu, and older images neither get in nor start", async () => {
    const first = await install(SIGNED, 5);
    let running = images.boot();
    // An installation is never on trial: this asks for it all the same.
    expect(existsSync(marker())).toBe(true);
    expect(settleTrust(running, running.world())).toEqual({
      ...{ removed: [], problems: [] },
      raised: { version: 5, source: "esp" },
    });
    expect(existsSync(marker())).toBe(false);
    expect(settleTrust(running, running.world()).raised).toBeNull();

    await put({ ...SIGNED, version: "2" }, 7);
    running = await advance(running);
    beginSettlement(running, running.world());
    expect(existsSync(marker())).toBe(true);
    // The rollback has to work.
    expect(settleTrust(running, running.world()).raised).toBeNull();
    expect(espFloor()).toBe(5);
    expect(existsSync(marker())).toBe(false);

    const third = await put({ ...SIGNED, version: "3" }, 9);
    running = await advance(running);
    expect(settleTrust(running, running.world()).raised).toEqual({ version: 7, source: "esp" });
    expect(espFloor()).toBe(7);

    const old = await put({ ...SIGNED, version: "4" }, 6);
    expect(await refusal(update(running))).toMatch(/^downgrade: .*version 6.*none below 7/);
    expect(states()).not.toContain(old);
    expect(readdirSync(join(machine.esp, "EFI/Linux"))).not.toContain(`bootc_composefs-${first}`);

    // Somebody puts the old statement in the place of the running one's.
    const { statement } = statePaths(machine.disk, third);
    writeFileSync(statement, statementOf(third).replace("version: 9", "version: 6"));
    running[Symbol.dispose]();
    expect(() => images.boot()).toThrow(/no good signature/);
  });

  test("does not rise while the start is on trial", async () => {
    await install(SIGNED, 5);
    const first = images.boot();
    settleTrust(first, first.world());
    await put({ ...SIGNED, version: "2" }, 7);
    await update(first);
    finalizeStaged(first, first.world());
    first[Symbol.dispose]();
    using running = images.boot(0, false);
    expect(settleTrust(running, running.world())).toEqual({
      removed: [],
      raised: null,
      problems: [],
    });
    expect(espFloor()).toBe(5);
  });

  test("counter=none: there is none", async () => {
    await install({ ...SIGNED, conf: ["counter=none"] }, 5);
    using running = images.boot();
    expect(existsSync(marker())).toBe(false);
    expect(settleTrust(running, running.world()).raised).toBeNull();
    expect(espFloor()).toBeNull();
    expect(hostOf(running).problems).toEqual([]);
  });

  test("a failure is told, and status says that the floor is behind", async () => {
    await install(SIGNED, 5);
    using running = images.boot();
    rmSync(join(machine.esp, "EFI/bootc-ts"), { recursive: true, force: true });
    writeFileSync(join(machine.esp, "EFI/bootc-ts"), "in the way");
    const { problems, raised } = settleTrust(running, running.world());
    expect(raised).toBeNull();
    expect(problems.join()).toMatch(/EFI system partition/);
    expect(existsSync(marker())).toBe(true);
    expect(hostOf(running).problems.join()).toMatch(/older versions than 5 would still start/);
    rmSync(join(machine.esp, "EFI/bootc-ts"));
    expect(settleTrust(running, running.world())).toMatchObject({ raised: { version: 5 } });
    expect(hostOf(running).problems).toEqual([]);
  });
});

describe("revocation", () => {
  test("an image that the running one revokes is refused, whatever is allowed", async () => {
    const bad = await put({ ...SIGNED, version: "2" }, 9);
    await install({ ...SIGNED, revoked: [`digest ${bad}`] });
    using running = images.boot();
    await put({ ...SIGNED, version: "2" }, 9);
    expect(await refusal(update(running, { allowWeakerTrust: true }))).toMatch(
      /^revoked: .*by the running system/,
    );
  });

  test("what a new image revokes leaves the menu once that one has proved itself", async () => {
    const bad = await install(SIGNED, 5);
    const first = images.boot();
    const good = await put({ ...SIGNED, version: "2", revoked: [`digest ${bad}`] }, 7);
    await update(first);
    finalizeStaged(first, first.world());
    first[Symbol.dispose]();
    const trial = images.boot(0, false);
    expect(settleTrust(trial, trial.world()).removed).toEqual([]);
    expect(states()).toEqual([bad, good].sort());
    expect(hostOf(trial).problems.join()).toMatch(/is revoked by the running image and still/);
    trial[Symbol.dispose]();

    using running = images.boot();
    expect(settleTrust(running, running.world())).toEqual({
      ...{ removed: [bad], problems: [] },
      raised: { version: 7, source: "esp" },
    });
    expect(states()).toEqual([good]);
    expect(readdirSync(join(machine.esp, "loader/entries"))).toHaveLength(1);
    expect(hostOf(running).problems).toEqual([]);
  });

  test("a pinned one stays and is named, and does not hold the floor back", async () => {
    const bad = await install(SIGNED, 5);
    const first = images.boot();
    writeFileSync(statePaths(machine.disk, bad).pin, "");
    await put({ ...SIGNED, version: "2", revoked: [`digest ${bad}`] }, 7);
    using running = await advance(first);
    expect(settleTrust(running, running.world())).toMatchObject({
      removed: [],
      raised: { version: 7 },
    });
    const { problems } = hostOf(running);
    expect(() => requireStartable(running, running.world(), bad)).toThrow(
      /is revoked by the running/,
    );
    expect(problems.join("\n")).toMatch(/is revoked by the running image/);
    expect(problems.join("\n")).toMatch(/would be refused when it is started/);
  });

  test("keys are changed in three steps, and the rollback works all the time", async () => {
    await install(SIGNED, 1);
    let running = images.boot();
    await put({ version: "2", keys: ["vendor", "next"], signers: ["vendor"] }, 2);
    running = await advance(running);
    settleTrust(running, running.world());
    await put({ version: "3", keys: ["vendor", "next"], signers: ["next"] }, 3);
    running = await advance(running);
    settleTrust(running, running.world());
    const revoked = [`key ${trustKey("vendor").fingerprint}`];
    await put({ version: "4", keys: ["vendor", "next"], revoked, signers: ["next"] }, 4);
    running = await advance(running);
    expect(settleTrust(running, running.world()).raised).toEqual({ version: 3, source: "esp" });
    const host = hostOf(running);
    expect(host.booted?.trust?.key?.name).toBe("next.pub");
    expect(host.problems).toEqual([]);
    running[Symbol.dispose]();
    images.boot(1)[Symbol.dispose]();

    running = images.boot();
    await put({ version: "5", keys: ["vendor", "next"], signers: ["vendor"] }, 9);
    expect(await refusal(update(running))).toMatch(/^revoked: .*which is revoked/);
    running[Symbol.dispose]();
  });
});

describe("time", () => {
  const at = (days: number) =>
    `${new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 19)}Z`;

  test.each<[string, Partial<TrustedImage>, number, RegExp | null]>([
    ["long before the end", {}, 30, null],
    ["two weeks before the end", {}, 10, /expires at .*does not start any more: update it/],
    ["before an end that is only told", { conf: ["expired=warn"] }, 10, null],
    ["after an end that is only told", { conf: ["expired=warn"] }, -1, /expired at .*: update it/],
  ])("%s", async (_, changes, days, expected) => {
    await install({ ...SIGNED, ...changes, statement: { expires: at(days) } });
    using running = images.boot();
    settleTrust(running, running.world());
    const { problems } = hostOf(running);
    expect(problems).toHaveLength(expected === null ? 0 : 1);
    if (expected !== null) expect(problems[0]).toMatch(expected);
  });

  test("no way back to what would be refused: it is not counted, and would be tried for ever", async () => {
    const first = await install({ ...SIGNED, statement: { expires: at(1), version: 5 } });
    const before = images.boot();
    await put({ ...SIGNED, version: "2" }, 6);
    using running = await advance(before);
    expect(() => requireStartable(running, running.world(), first)).not.toThrow();
    const { statement } = statePaths(machine.disk, first);
    writeFileSync(statement, sign(first, [trustKey("vendor")], { expires: at(-1) }));
    expect(() => requireStartable(running, running.world(), first)).toThrow(
      /would be refused when it is started \(.*expired/,
    );
    expect(hostOf(running).problems.join()).toMatch(
      /would be refused when it is started: .*expired/,
    );
  });
});

describe("better signatures for what is there already", () => {
  const soon = { expires: "2100-01-01T00:00:00Z", version: 5 };
  const late = { expires: "2200-01-01T00:00:00Z", version: 5 };

  test("of the running deployment, by a manifest that differs in nothing else", async () => {
    const id = await install({ ...SIGNED, statement: soon });
    using running = images.boot();
    expect((await update(running)).kind).toBe("unchanged");
    await put({ ...SIGNED, statement: late });
    expect(await update(running, { dryRun: true })).toMatchObject({ renewed: { id } });
    expect(statementOf(id)).toContain("2100");
    expect(await update(running)).toMatchObject({
      ...{ kind: "unchanged", slot: "booted" },
      renewed: { id, version: 5, expires: late.expires },
    });
    expect(statementOf(id)).toContain("2200");
    expect(await update(running)).not.toHaveProperty("renewed");
    images.boot()[Symbol.dispose]();
  });

  test("never worse ones", async () => {
    const id = await install({ ...SIGNED, statement: late });
    using running = images.boot();
    const before = statementOf(id);
    for (const change of [
      { statement: soon },
      { signers: ["thief"] },
      { signers: [] as string[] },
    ]) {
      const { signers, ...rest } = { ...SIGNED, statement: late, ...change };
      await put({ ...rest, ...(signers?.length ? { signers } : {}) });
      await update(running).catch(() => {});
      expect(statementOf(id)).toBe(before);
    }
  });

  test("a second signature joins the first", async () => {
    const id = await install({ ...SIGNED, statement: soon });
    using running = images.boot();
    await put({ ...SIGNED, signers: ["vendor", "next"], statement: soon });
    await update(running);
    expect(statementOf(id).match(/^signature: /gm)).toHaveLength(2);
  });
});

describe("unified kernels", () => {
  const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
  const setSecureBoot = (on: boolean) => {
    const variables = join(machine.directory, "sys/firmware/efi/efivars");
    mkdirSync(variables, { recursive: true });
    writeFileSync(join(variables, `SecureBoot-${GLOBAL}`), Buffer.from([6, 0, 0, 0, on ? 1 : 0]));
  };
  const SEALED: TrustedImage = { version: "1", uki: "rw composefs=?ID" };
  const installUnified = (image: TrustedImage) =>
    put(image).then(async (id) => {
      await installScratch(machine, path, { rootMountSpec: "", kargs: [] });
      return id;
    });

  test("sealed is only called so with Secure Boot, and both are told apart", async () => {
    await installUnified(SEALED);
    setSecureBoot(false);
    {
      using running = images.boot();
      const { booted, trust } = hostOf(running);
      expect(booted?.trust).toMatchObject({ mode: "unlocked", sealed: true, key: null });
      expect(trust).toMatchObject({ secureBoot: "disabled", next: { mode: "sealed" } });
    }
    setSecureBoot(true);
    using running = images.boot();
    const { booted, trust } = hostOf(running);
    expect(booted?.trust).toMatchObject({ mode: "sealed", sealed: true, refusal: null });
    expect(trust?.secureBoot).toBe("enabled");
  });

  test("from sealed to sealed, but not to separate files, unless told to", async () => {
    await installUnified(SEALED);
    const first = images.boot();
    await put({ ...SEALED, version: "2" });
    let running = await advance(first);
    await put({ ...SIGNED, version: "3" }, 3);
    expect(await refusal(update(running))).toMatch(/^rejected: .*separate files/);
    running = await advance(running, { allowWeakerTrust: true });
    const { booted, rollback } = hostOf(running);
    expect([booted?.trust?.mode, rollback?.trust?.sealed]).toEqual(["signed", true]);
    running[Symbol.dispose]();
  });

  test("each with a key of its own: the next one's is unknown, and that is right", async () => {
    const own = (number: number): TrustedImage => ({
      ...{ version: `${number}`, uki: null, ownKey: `build${number}` },
      ...{ signers: [`build${number}`], statement: { version: number } },
    });
    await installUnified(own(1));
    const first = images.boot();
    expect(hostOf(first).booted?.trust).toMatchObject({
      ...{ mode: "signed", version: 1 },
      key: { name: "ephemeral.pub", fingerprint: trustKey("build1").fingerprint },
    });
    // No key outlives its image, so nothing on the ESP could be believed by the next one.
    expect(settleTrust(first, first.world()).raised).toBeNull();
    expect(espFloor()).toBeNull();
    await put(own(2));
    using running = await advance(first);
    const { booted, problems } = hostOf(running);
    expect([booted?.trust?.version, problems]).toEqual([2, []]);
    expect(settleTrust(running, running.world()).problems).toEqual([]);
    await put({ ...own(3), signers: ["build2"] });
    expect(await refusal(update(running))).toMatch(/^untrusted-key: .*its own initramfs/);
  });
});
