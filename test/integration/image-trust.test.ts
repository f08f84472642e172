// Signed and sealed images on a machine in a directory: what is installed and staged, what starts, and what status
// says. Starts are judged by prepare-root's own code, so the two halves have to agree.

import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeStage, formatPlan } from "../../updater/cli/plan-text.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { settleTrust } from "../../updater/deploy/trust-settlement.ts";
import {
  attachSignatures,
  type EfiSigner,
  formatSignatureList,
  makeEfiSigner,
} from "../support/efi-keys.ts";
import { installScratch } from "../support/scratch-install.ts";
import { trustKey } from "../support/trust-place.ts";
import { hostOf, refusal, SIGNED, TrustRig, versionOf } from "../support/trust-rig.ts";
import type { TrustedImage } from "../support/trusted-machine.ts";

let rig: TrustRig;
beforeEach(() => {
  rig = new TrustRig();
});
afterEach(() => rig[Symbol.dispose]());

describe("installing", () => {
  test("a signed image: its statement lies with its state, and prepare-root takes it", async () => {
    const id = await rig.install();
    expect(versionOf(rig.statementOf(id))).toBe(5);
    using running = rig.images.boot();
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
    await rig.put(image);
    expect(await refusal(installScratch(rig.machine, rig.path))).toMatch(expected);
    expect(readdirSync(rig.machine.disk)).toEqual([]);
  });

  test("below the floor that is on the ESP already", async () => {
    await rig.install(SIGNED, 9);
    rig.images.boot()[Symbol.dispose]();
    {
      using running = rig.images.boot();
      expect(settleTrust(running, running.world())).toMatchObject({ raised: { version: 9 } });
    }
    for (const name of readdirSync(rig.machine.disk))
      rmSync(join(rig.machine.disk, name), { recursive: true });
    for (const name of ["loader", "EFI/Linux"])
      rmSync(join(rig.machine.esp, name), { recursive: true });
    await rig.put(SIGNED, 8);
    expect(await refusal(installScratch(rig.machine, rig.path))).toMatch(/^downgrade: .*below 9/);
  });

  test("status goes on when what prepare-root left, or the trust directory, is broken", async () => {
    await rig.install();
    using running = rig.images.boot();
    writeFileSync(join(rig.machine.run, "composefs/trust.json"), "{");
    const { booted, problems } = hostOf(running);
    // Nothing is called signed on hearsay.
    expect(booted?.trust).toMatchObject({ mode: "unlocked", key: null });
    expect(problems.join()).toMatch(/How this start was checked is unknown/);
    expect(settleTrust(running, running.world()).problems.join()).toMatch(/trust\.json/);
    writeFileSync(join(rig.machine.root, "usr/lib/bootc/trust/keys.d/vendor.pub"), "rubbish");
    expect(hostOf(running).problems.join()).toMatch(/What the running image trusts is unknown/);
    await rig.put({ ...SIGNED, version: "2" }, 9);
    await expect(rig.update(running)).rejects.toThrow(/public key "vendor.pub"/);
  });

  test("an unlocked image asks for nothing", async () => {
    const id = await rig.install({ version: "1" });
    expect(existsSync(statePaths(rig.machine.disk, id).statement)).toBe(false);
    using running = rig.images.boot();
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
    const id = await rig.install();
    using running = rig.images.boot();
    await rig.put({ ...image, version: "2" });
    const before = rig.states();
    expect(await refusal(rig.update(running))).toMatch(expected);
    expect(rig.states()).toEqual(before);
    expect(existsSync(join(rig.machine.run, "composefs/staged-deployment"))).toBe(false);
    expect(existsSync(join(rig.machine.esp, "loader/entries.staged"))).toBe(false);
    expect(hostOf(running).booted?.id).toBe(id);
  });

  test.each<[string, Partial<TrustedImage>, "unlocked" | "signed"]>([
    ["unlocked", {}, "unlocked"],
    ["signed by another", { keys: ["thief"], signers: ["thief"] }, "signed"],
  ])("%s with --allow-weaker-trust", async (_, image, mode) => {
    await rig.install();
    const first = rig.images.boot();
    await rig.put({ ...image, version: "2" }, image.signers === undefined ? undefined : 9);
    using running = await rig.advance(first, { allowWeakerTrust: true });
    const host = hostOf(running);
    expect(host.booted?.trust).toMatchObject({ mode, refusal: null });
    expect(host.rollback?.trust).toMatchObject({ mode: "signed", version: 5 });
  });

  test("what would not start is not staged by any option", async () => {
    await rig.install();
    using running = rig.images.boot();
    await rig.put({ version: "2", keys: ["vendor"] });
    const text = await refusal(rig.update(running, { allowWeakerTrust: true }));
    expect(text).toMatch(/^unsigned: .*its own initramfs would refuse it/);
  });

  test("a dry run tells the key, the version and the floor", async () => {
    await rig.install();
    using running = rig.images.boot();
    settleTrust(running, running.world());
    await rig.put({ ...SIGNED, version: "2" }, 6);
    const outcome = await rig.update(running, { dryRun: true });
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

describe("unified kernels", () => {
  const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
  const setSecureBoot = (on: boolean) => {
    const variables = join(rig.machine.directory, "sys/firmware/efi/efivars");
    mkdirSync(variables, { recursive: true });
    writeFileSync(join(variables, `SecureBoot-${GLOBAL}`), Buffer.from([6, 0, 0, 0, on ? 1 : 0]));
  };
  const SEALED: TrustedImage = { version: "1", uki: "rw composefs=?ID" };
  const installUnified = (image: TrustedImage) =>
    rig.put(image).then(async (id) => {
      await installScratch(rig.machine, rig.path, { rootMountSpec: "", kargs: [] });
      return id;
    });

  test("sealed is only called so with Secure Boot, and both are told apart", async () => {
    await installUnified(SEALED);
    setSecureBoot(false);
    {
      using running = rig.images.boot();
      const { booted, trust } = hostOf(running);
      expect(booted?.trust).toMatchObject({ mode: "unlocked", sealed: true, key: null });
      expect(trust).toMatchObject({ secureBoot: "disabled", next: { mode: "sealed" } });
    }
    setSecureBoot(true);
    using running = rig.images.boot();
    const { booted, trust } = hostOf(running);
    expect(booted?.trust).toMatchObject({ mode: "sealed", sealed: true, refusal: null });
    expect(trust?.secureBoot).toBe("enabled");
  });

  test("from sealed to sealed, but not to separate files, unless told to", async () => {
    await installUnified(SEALED);
    const first = rig.images.boot();
    await rig.put({ ...SEALED, version: "2" });
    let running = await rig.advance(first);
    await rig.put({ ...SIGNED, version: "3" }, 3);
    expect(await refusal(rig.update(running))).toMatch(/^rejected: .*separate files/);
    running = await rig.advance(running, { allowWeakerTrust: true });
    const { booted, rollback } = hostOf(running);
    expect([booted?.trust?.mode, rollback?.trust?.sealed]).toEqual(["signed", true]);
    running[Symbol.dispose]();
  });

  describe("with Secure Boot on, what the firmware is certain to refuse is not staged", () => {
    const putKeys = (...signers: readonly EfiSigner[]) => {
      const lists = signers.map(({ certificate }) => formatSignatureList(certificate));
      const db = Buffer.concat([Buffer.from([39, 0, 0, 0]), ...lists]);
      const name = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f";
      writeFileSync(join(rig.machine.directory, "sys/firmware/efi/efivars", name), db);
    };
    const signedBy = (signer: EfiSigner): Partial<TrustedImage> => ({
      signUki: (uki) => attachSignatures(uki, signer.sign()),
    });
    let owner: EfiSigner;
    let foreign: EfiSigner;
    beforeEach(async () => {
      owner = makeEfiSigner(rig.machine.directory, "owner");
      foreign = makeEfiSigner(rig.machine.directory, "foreign");
      await installUnified({ ...SEALED, ...signedBy(owner) });
      setSecureBoot(true);
      putKeys(owner);
    });

    test.each<[string, () => Partial<TrustedImage>, RegExp]>([
      ["not signed", () => ({}), /"\/boot\/EFI\/Linux\/os\.efi" has no Secure Boot signature/],
      ["by a stranger", () => signedBy(foreign), /signed by "foreign", and by no key in the/],
    ])("%s", async (_, changes, expected) => {
      using running = rig.images.boot();
      await rig.put({ ...SEALED, ...changes(), version: "2" });
      const states = rig.states();
      for (const dryRun of [true, false]) {
        const text = await refusal(rig.update(running, { dryRun }));
        expect(text).toMatch(/^rejected: Secure Boot of this machine would refuse the image: /);
        expect(text).toMatch(expected);
        expect(text).toMatch(/"--allow-weaker-trust" takes it all the same$/);
      }
      expect(rig.states()).toEqual(states);
      expect(await rig.update(running, { allowWeakerTrust: true })).toMatchObject({
        kind: "staged",
        warnings: [expect.stringMatching(expected)],
      });
    });

    test("by a key that db has: staged; without Secure Boot it is all the same", async () => {
      using running = rig.images.boot();
      await rig.put({ ...SEALED, ...signedBy(owner), version: "2" });
      expect(await rig.update(running)).toMatchObject({ kind: "staged", warnings: [] });
      setSecureBoot(false);
      await rig.put({ ...SEALED, version: "3" });
      expect(await rig.update(running)).toMatchObject({ kind: "staged", warnings: [] });
    });

    test("behind shim, which may know it: staged, with a warning", async () => {
      using running = rig.images.boot();
      const variables = join(rig.machine.directory, "sys/firmware/efi/efivars");
      writeFileSync(
        join(variables, "MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"),
        Buffer.concat([Buffer.alloc(4), formatSignatureList(owner.certificate)]),
      );
      await rig.put({ ...SEALED, ...signedBy(foreign), version: "2" });
      expect(await rig.update(running)).toMatchObject({
        kind: "staged",
        warnings: [expect.stringMatching(/^Secure Boot may refuse the image: .*"foreign"/)],
      });
    });
  });

  test("each with a key of its own: the next one's is unknown, and that is right", async () => {
    const own = (number: number): TrustedImage => ({
      ...{ version: `${number}`, uki: null, ownKey: `build${number}` },
      ...{ signers: [`build${number}`], statement: { version: number } },
    });
    await installUnified(own(1));
    const first = rig.images.boot();
    expect(hostOf(first).booted?.trust).toMatchObject({
      ...{ mode: "signed", version: 1 },
      key: { name: "ephemeral.pub", fingerprint: trustKey("build1").fingerprint },
    });
    // No key outlives its image, so nothing on the ESP could be believed by the next one.
    expect(settleTrust(first, first.world()).raised).toBeNull();
    expect(rig.espFloor()).toBeNull();
    await rig.put(own(2));
    using running = await rig.advance(first);
    const { booted, problems } = hostOf(running);
    expect([booted?.trust?.version, problems]).toEqual([2, []]);
    expect(settleTrust(running, running.world()).problems).toEqual([]);
    await rig.put({ ...own(3), signers: ["build2"] });
    expect(await refusal(rig.update(running))).toMatch(/^untrusted-key: .*its own initramfs/);
  });
});
