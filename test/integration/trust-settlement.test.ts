// What becomes of trust on a machine of signed images as time goes by: the version floor rises, images are revoked,
// keys change, signatures expire and are renewed. Starts are judged by prepare-root's own code.

import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { requireStartable } from "../../updater/deploy/host-trust.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { beginSettlement, settleTrust } from "../../updater/deploy/trust-settlement.ts";
import { sign, trustKey } from "../support/trust-place.ts";
import { hostOf, refusal, SIGNED, TrustRig } from "../support/trust-rig.ts";
import type { TrustedImage } from "../support/trusted-machine.ts";

let rig: TrustRig;
beforeEach(() => {
  rig = new TrustRig();
});
afterEach(() => rig[Symbol.dispose]());
const marker = () => join(rig.machine.disk, "state/bootc/trust-unsettled");

describe("the version floor", () => {
  test("rises with what stays in the menu, and older images neither get in nor start", async () => {
    const first = await rig.install(SIGNED, 5);
    let running = rig.images.boot();
    // An installation is never on trial: this asks for it all the same.
    expect(existsSync(marker())).toBe(true);
    expect(settleTrust(running, running.world())).toEqual({
      ...{ removed: [], problems: [] },
      raised: { version: 5, source: "esp" },
    });
    expect(existsSync(marker())).toBe(false);
    expect(settleTrust(running, running.world()).raised).toBeNull();

    await rig.put({ ...SIGNED, version: "2" }, 7);
    running = await rig.advance(running);
    beginSettlement(running, running.world());
    expect(existsSync(marker())).toBe(true);
    // The rollback has to work.
    expect(settleTrust(running, running.world()).raised).toBeNull();
    expect(rig.espFloor()).toBe(5);
    expect(existsSync(marker())).toBe(false);

    const third = await rig.put({ ...SIGNED, version: "3" }, 9);
    running = await rig.advance(running);
    expect(settleTrust(running, running.world()).raised).toEqual({ version: 7, source: "esp" });
    expect(rig.espFloor()).toBe(7);

    const old = await rig.put({ ...SIGNED, version: "4" }, 6);
    expect(await refusal(rig.update(running))).toMatch(/^downgrade: .*version 6.*none below 7/);
    expect(rig.states()).not.toContain(old);
    expect(readdirSync(join(rig.machine.esp, "EFI/Linux"))).not.toContain(
      `bootc_composefs-${first}`,
    );

    // Somebody puts the old statement in the place of the running one's.
    const { statement } = statePaths(rig.machine.disk, third);
    writeFileSync(statement, rig.statementOf(third).replace("version: 9", "version: 6"));
    running[Symbol.dispose]();
    expect(() => rig.images.boot()).toThrow(/no good signature/);
  });

  test("does not rise while the start is on trial", async () => {
    await rig.install(SIGNED, 5);
    const first = rig.images.boot();
    settleTrust(first, first.world());
    await rig.put({ ...SIGNED, version: "2" }, 7);
    await rig.update(first);
    finalizeStaged(first, first.world());
    first[Symbol.dispose]();
    using running = rig.images.boot(0, false);
    expect(settleTrust(running, running.world())).toEqual({
      removed: [],
      raised: null,
      problems: [],
    });
    expect(rig.espFloor()).toBe(5);
  });

  test("counter=none: there is none", async () => {
    await rig.install({ ...SIGNED, conf: ["counter=none"] }, 5);
    using running = rig.images.boot();
    expect(existsSync(marker())).toBe(false);
    expect(settleTrust(running, running.world()).raised).toBeNull();
    expect(rig.espFloor()).toBeNull();
    expect(hostOf(running).problems).toEqual([]);
  });

  test("a failure is told, and status says that the floor is behind", async () => {
    await rig.install(SIGNED, 5);
    using running = rig.images.boot();
    rmSync(join(rig.machine.esp, "EFI/bootc-ts"), { recursive: true, force: true });
    writeFileSync(join(rig.machine.esp, "EFI/bootc-ts"), "in the way");
    const { problems, raised } = settleTrust(running, running.world());
    expect(raised).toBeNull();
    expect(problems.join()).toMatch(/EFI system partition/);
    expect(existsSync(marker())).toBe(true);
    expect(hostOf(running).problems.join()).toMatch(/older versions than 5 would still start/);
    rmSync(join(rig.machine.esp, "EFI/bootc-ts"));
    expect(settleTrust(running, running.world())).toMatchObject({ raised: { version: 5 } });
    expect(hostOf(running).problems).toEqual([]);
  });
});

describe("revocation", () => {
  test("an image that the running one revokes is refused, whatever is allowed", async () => {
    const bad = await rig.put({ ...SIGNED, version: "2" }, 9);
    await rig.install({ ...SIGNED, revoked: [`digest ${bad}`] });
    using running = rig.images.boot();
    await rig.put({ ...SIGNED, version: "2" }, 9);
    expect(await refusal(rig.update(running, { allowWeakerTrust: true }))).toMatch(
      /^revoked: .*by the running system/,
    );
  });

  test("what a new image revokes leaves the menu once that one has proved itself", async () => {
    const bad = await rig.install(SIGNED, 5);
    const first = rig.images.boot();
    const good = await rig.put({ ...SIGNED, version: "2", revoked: [`digest ${bad}`] }, 7);
    await rig.update(first);
    finalizeStaged(first, first.world());
    first[Symbol.dispose]();
    const trial = rig.images.boot(0, false);
    expect(settleTrust(trial, trial.world()).removed).toEqual([]);
    expect(rig.states()).toEqual([bad, good].sort());
    expect(hostOf(trial).problems.join()).toMatch(/is revoked by the running image and still/);
    trial[Symbol.dispose]();

    using running = rig.images.boot();
    expect(settleTrust(running, running.world())).toEqual({
      ...{ removed: [bad], problems: [] },
      raised: { version: 7, source: "esp" },
    });
    expect(rig.states()).toEqual([good]);
    expect(readdirSync(join(rig.machine.esp, "loader/entries"))).toHaveLength(1);
    expect(hostOf(running).problems).toEqual([]);
  });

  test("a pinned one stays and is named, and does not hold the floor back", async () => {
    const bad = await rig.install(SIGNED, 5);
    const first = rig.images.boot();
    writeFileSync(statePaths(rig.machine.disk, bad).pin, "");
    await rig.put({ ...SIGNED, version: "2", revoked: [`digest ${bad}`] }, 7);
    using running = await rig.advance(first);
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
    await rig.install(SIGNED, 1);
    let running = rig.images.boot();
    await rig.put({ version: "2", keys: ["vendor", "next"], signers: ["vendor"] }, 2);
    running = await rig.advance(running);
    settleTrust(running, running.world());
    await rig.put({ version: "3", keys: ["vendor", "next"], signers: ["next"] }, 3);
    running = await rig.advance(running);
    settleTrust(running, running.world());
    const revoked = [`key ${trustKey("vendor").fingerprint}`];
    await rig.put({ version: "4", keys: ["vendor", "next"], revoked, signers: ["next"] }, 4);
    running = await rig.advance(running);
    expect(settleTrust(running, running.world()).raised).toEqual({ version: 3, source: "esp" });
    const host = hostOf(running);
    expect(host.booted?.trust?.key?.name).toBe("next.pub");
    expect(host.problems).toEqual([]);
    running[Symbol.dispose]();
    rig.images.boot(1)[Symbol.dispose]();

    running = rig.images.boot();
    await rig.put({ version: "5", keys: ["vendor", "next"], signers: ["vendor"] }, 9);
    expect(await refusal(rig.update(running))).toMatch(/^revoked: .*which is revoked/);
    running[Symbol.dispose]();
  });
});

describe("a stolen key, revoked at once by an image that both keys signed", () => {
  const REVOKING = {
    keys: ["vendor", "next"],
    revoked: [`key ${trustKey("vendor").fingerprint}`],
  } as const;

  test("machines with only the old key take it, and nothing that the thief signs afterwards", async () => {
    await rig.install(SIGNED, 1);
    let running = rig.images.boot();
    await rig.put({ ...REVOKING, version: "2", signers: ["vendor", "next"] }, 2);
    running = await rig.advance(running);
    // The rollback knows no other key: a floor above it would be its end.
    expect(settleTrust(running, running.world())).toMatchObject({
      raised: null,
      problems: [expect.stringMatching(/^The version floor stays: .*key that the running image/)],
    });
    running[Symbol.dispose]();
    rig.images.boot(1)[Symbol.dispose]();
    running = rig.images.boot();
    await rig.put({ ...SIGNED, version: "3" }, 99);
    expect(await refusal(rig.update(running))).toMatch(/^revoked: /);
    await rig.put({ ...REVOKING, version: "4", signers: ["next"] }, 3);
    running = await rig.advance(running);
    expect(settleTrust(running, running.world()).raised).toEqual({ version: 2, source: "esp" });
    running[Symbol.dispose]();
    rig.images.boot(1)[Symbol.dispose]();
  });

  test("signed by the old key alone it would not start, and is not taken", async () => {
    await rig.install(SIGNED, 1);
    using running = rig.images.boot();
    await rig.put({ ...REVOKING, version: "2", signers: ["vendor"] }, 2);
    const text = await refusal(rig.update(running, { allowWeakerTrust: true }));
    expect(text).toMatch(/^revoked: .*its own initramfs would refuse it/);
  });

  test("nor is an image that has not the key which signed it", async () => {
    await rig.install(SIGNED, 1);
    using running = rig.images.boot();
    await rig.put({ version: "2", keys: ["next"], signers: ["vendor"] }, 2);
    const text = await refusal(rig.update(running, { allowWeakerTrust: true }));
    expect(text).toMatch(/^untrusted-key: .*its own initramfs would refuse it/);
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
    await rig.install({ ...SIGNED, ...changes, statement: { expires: at(days) } });
    using running = rig.images.boot();
    settleTrust(running, running.world());
    const { problems } = hostOf(running);
    expect(problems).toHaveLength(expected === null ? 0 : 1);
    if (expected !== null) expect(problems[0]).toMatch(expected);
  });

  test("no way back to what would be refused: it is not counted, and would be tried for ever", async () => {
    const first = await rig.install({ ...SIGNED, statement: { expires: at(1), version: 5 } });
    const before = rig.images.boot();
    await rig.put({ ...SIGNED, version: "2" }, 6);
    using running = await rig.advance(before);
    expect(() => requireStartable(running, running.world(), first)).not.toThrow();
    const { statement } = statePaths(rig.machine.disk, first);
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
    const id = await rig.install({ ...SIGNED, statement: soon });
    using running = rig.images.boot();
    expect((await rig.update(running)).kind).toBe("unchanged");
    await rig.put({ ...SIGNED, statement: late });
    expect(await rig.update(running, { dryRun: true })).toMatchObject({ renewed: { id } });
    expect(rig.statementOf(id)).toContain("2100");
    expect(await rig.update(running)).toMatchObject({
      ...{ kind: "unchanged", slot: "booted" },
      renewed: { id, version: 5, expires: late.expires },
    });
    expect(rig.statementOf(id)).toContain("2200");
    expect(await rig.update(running)).not.toHaveProperty("renewed");
    rig.images.boot()[Symbol.dispose]();
  });

  test("never worse ones", async () => {
    const id = await rig.install({ ...SIGNED, statement: late });
    using running = rig.images.boot();
    const before = rig.statementOf(id);
    for (const change of [
      { statement: soon },
      { signers: ["thief"] },
      { signers: [] as string[] },
    ]) {
      const { signers, ...rest } = { ...SIGNED, statement: late, ...change };
      await rig.put({ ...rest, ...(signers?.length ? { signers } : {}) });
      await rig.update(running).catch(() => {});
      expect(rig.statementOf(id)).toBe(before);
    }
  });

  test("a second signature joins the first", async () => {
    const id = await rig.install({ ...SIGNED, statement: soon });
    using running = rig.images.boot();
    await rig.put({ ...SIGNED, signers: ["vendor", "next"], statement: soon });
    await rig.update(running);
    expect(rig.statementOf(id).match(/^signature: /gm)).toHaveLength(2);
  });
});
