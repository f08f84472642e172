// `bootc container seal` and `verify` with the real ukify, sbsign and sbverify. Whose keys sign what is in
// container-seal-keys.test.ts.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openUki } from "../../updater/boot/uki.ts";
import { packMembers } from "../support/archive-builder.ts";
import { blobFile, writeLayout } from "../support/oci-builder.ts";
import { makeSealRig, SEALABLE_KARGS, SEALED_KERNEL, type SealRig } from "../support/seal-rig.ts";
import { makeInitramfs, makeSealable, SEALABLE_PROGRAM } from "../support/sealable-image.ts";
import { dir, file, makeTar } from "../support/small-os.ts";
import { ensureDebianKernel } from "../vm/debian-kernel.ts";

/** What boot assessment wants, added by sealing. */
const withoutPanic = "systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot";
const TRIAL = `panic=10 ${withoutPanic}`;

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";

describe.skipIf(notRoot !== "")(`container seal${notRoot}`, () => {
  let rig: SealRig;
  const at = (name: string) => rig.at(name);
  const layout = (name: string) => rig.layout(name);
  const seal = (...words: readonly string[]) => rig.seal(...words);
  const verify = (name: string, ...words: readonly string[]) => rig.verify(name, ...words);

  const readSection = async (path: string, name: string) => {
    const words = ["inspect", path, "--section", `${name}:text`, "--json=short"];
    const text = await rig.tool("ukify", ...words);
    return (JSON.parse(text) as Record<string, { text: string }>)[name]?.text ?? null;
  };

  beforeAll(async () => {
    rig = await makeSealRig([
      await makeSealable({ tag: "plain" }),
      await makeSealable({ tag: "zstd", compression: "zstd" }),
      await makeSealable({ tag: "real", compression: "zstd", realKernel: true }),
    ]);
    await seal(...rig.secureBoot, layout("plain"), layout("sealed"));
  });
  afterAll(() => rig?.remove());

  describe("a sealed image", () => {
    test("is what machines compute, and firmware accepts its kernel", async () => {
      const report = await verify("sealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({
        mode: "sealed",
        verity: "required",
        findings: [],
        warnings: [],
      });
      expect(report.programs).toEqual([{ path: `/${SEALED_KERNEL}`, signature: "good" }]);
      expect(report.cmdline).toBe(`${SEALABLE_KARGS} composefs=${report.id} ${TRIAL}`);
      await rig.call("internals", "cfs", "--repo", at("repo"), "init", "--insecure");
      const words = ["--repo", at("repo"), "oci", "pull", "--bootable", layout("sealed"), "x"];
      const pulled = await rig.call("internals", "cfs", ...words);
      expect(pulled).toContain(`Boot image: ${report.id}\n`);
    });

    test("has a unified kernel of its own parts", async () => {
      const { vmlinuz } = await ensureDebianKernel("trixie");
      await seal(...rig.secureBoot, layout("real"), layout("real-sealed"));
      const report = await verify("real-sealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ mode: "sealed", findings: [], warnings: [] });
      const path = at("sealed.efi");
      writeFileSync(path, rig.readTop("real-sealed").get(SEALED_KERNEL)!);
      expect(await readSection(path, ".uname")).toBe("6.12");
      expect(await readSection(path, ".osrel")).toContain('PRETTY_NAME="Debian 13"');
      await rig.call("internals", "uki", "extract", path, at("parts"));
      const part = (name: string) => readFileSync(at(`parts/6.12/${name}`));
      expect(part("vmlinuz").equals(readFileSync(vmlinuz))).toBe(true);
      const initramfs = makeInitramfs({ compression: "zstd" });
      expect(part("initramfs.img").subarray(0, initramfs.length).equals(initramfs)).toBe(true);
    });

    test("keeps layers, annotations and config of the image, and adds one layer", () => {
      const [before, after] = [rig.readManifest("plain"), rig.readManifest("sealed")];
      expect(after.annotations).toEqual(before.annotations);
      expect(after.layers.slice(0, -1)).toEqual(before.layers);
      const { rootfs, history, ...rest } = rig.readConfig(after);
      const { rootfs: rootfsBefore, ...restBefore } = rig.readConfig(before);
      expect(rest).toEqual(restBefore);
      expect(rootfs.diff_ids.slice(0, -1)).toEqual(rootfsBefore.diff_ids);
      expect(history).toEqual([
        { created: "2025-01-02T03:04:05Z", created_by: "bootc container seal" },
      ]);
      expect([...rig.readTop("sealed").keys()]).toEqual([
        ...["boot/", "boot/EFI/", "boot/EFI/Linux/", SEALED_KERNEL, `${SEALED_KERNEL}.dump`],
        ...["usr/", "usr/lib/", "usr/lib/modules/", "usr/lib/modules/6.12/"],
        "usr/lib/modules/6.12/.wh.initramfs.img",
        "usr/lib/modules/6.12/.wh.vmlinuz",
      ]);
    });

    test("is the same bytes every time, but for the time in a signature", async () => {
      for (const name of ["again-1", "again-2"])
        await seal("--unsigned", layout("plain"), layout(name));
      const [one, two] = [rig.readManifest("again-1"), rig.readManifest("again-2")];
      expect(one.digest).toBe(two.digest);
    });

    test("without Secure Boot keys is a warning; another key is a finding", async () => {
      const unsigned = await verify("again-1");
      expect(unsigned).toMatchObject({ mode: "sealed", findings: [] });
      expect(unsigned.warnings).toEqual([expect.stringContaining("is not signed")]);
      const unchecked = await verify("sealed");
      expect(unchecked.warnings).toEqual([expect.stringContaining("was not checked")]);
      const { findings } = await verify("sealed", "--certificate", at("other.crt"));
      expect(findings).toEqual([expect.stringContaining("not signed for Secure Boot by any")]);
      const fails = rig.call(
        "container",
        "verify",
        "--certificate",
        at("other.crt"),
        layout("sealed"),
      );
      await expect(fails).rejects.toThrow("must not ship: 1 finding");
    });

    test("that tolerates files without fs-verity is called weaker", async () => {
      await seal("--unsigned", "--allow-missing-verity", layout("plain"), layout("weak"));
      const report = await verify("weak");
      expect(report.cmdline).toBe(`${SEALABLE_KARGS} composefs=?${report.id} ${TRIAL}`);
      expect(report.verity).toBe("optional");
      expect(report.warnings).toContainEqual(expect.stringContaining("without fs-verity start"));
    });

    test("has the arguments that were asked for behind its digest", async () => {
      await seal(
        "--unsigned",
        "--karg",
        "rw panic=0",
        "--karg",
        "a=b c",
        layout("plain"),
        layout("kargs"),
      );
      const { cmdline, id, findings } = await verify("kargs");
      expect(findings).toEqual([]);
      expect(cmdline).toBe(`${SEALABLE_KARGS} composefs=${id} rw panic=0 a=b c ${withoutPanic}`);
    });

    test("has the arguments of the image as they are, also one that looks like a file's name", async () => {
      const kargs = file("usr/lib/bootc/kargs.d/05.toml", 'kargs = ["@/etc/hostname"]');
      writeLayout(at("at-sign"), [await makeSealable({ tag: "x", entries: [kargs] })]);
      await seal("--unsigned", `oci:${at("at-sign")}:x`, layout("at-sign"));
      const { cmdline, id } = await verify("at-sign");
      expect(cmdline).toBe(`@/etc/hostname ${SEALABLE_KARGS} composefs=${id} ${TRIAL}`);
    });

    test("comes from transports that have the tars only", async () => {
      const { layers } = await makeSealable({ tag: "plain" });
      const members = layers.map(({ tar }, index) => ({ name: `${index}.tar`, content: tar }));
      const config = readFileSync(blobFile(at("images"), rig.readManifest("plain").config.digest));
      const manifest = [
        { Config: "config.json", RepoTags: ["os:1"], Layers: members.map(({ name }) => name) },
      ];
      writeFileSync(
        at("docker.tar"),
        packMembers([
          ...members,
          { name: "config.json", content: config },
          { name: "manifest.json", content: JSON.stringify(manifest) },
        ]),
      );
      await seal("--unsigned", `docker-archive:${at("docker.tar")}`, layout("from-tars"));
      expect(rig.readManifest("from-tars").layers.slice(0, -1)).toEqual(
        layers.map(({ tar }) => ({
          mediaType: "application/vnd.oci.image.layer.v1.tar",
          digest: `sha256:${createHash("sha256").update(tar).digest("hex")}`,
          size: tar.length,
        })),
      );
      expect((await verify("from-tars")).id).toBe((await verify("again-1")).id);
    });
  });

  describe("an image that was changed after it was sealed", () => {
    beforeAll(async () => {
      rig.derive("sealed", "derived", [
        { tar: await makeTar([dir("usr"), file("usr/bin/new", "n")]) },
      ]);
    });

    test("is found, with the first difference", async () => {
      const { findings } = await verify("derived", "--certificate", at("db.crt"));
      expect(findings).toEqual([
        expect.stringMatching(/the first difference is "\/usr\/bin\/new"/),
      ]);
    });

    test("is sealed anew on demand only", async () => {
      const again = (...words: string[]) =>
        seal(...rig.secureBoot, ...words, layout("derived"), layout("resealed"));
      await expect(again()).rejects.toThrow('is sealed already, with "/boot/EFI/Linux/6.12.efi"');
      await again("--reseal");
      const report = await verify("resealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ mode: "sealed", findings: [], warnings: [] });
      expect(report.id).not.toBe((await verify("sealed")).id);
      expect(rig.readManifest("resealed").layers).toHaveLength(5);
    });

    test("sealed anew as it was, the old layer is not kept", async () => {
      await seal(...rig.secureBoot, "--reseal", layout("sealed"), layout("same"));
      const [before, after] = [rig.readManifest("sealed"), rig.readManifest("same")];
      expect(after.layers).toHaveLength(before.layers.length);
      expect((await verify("same")).id).toBe((await verify("sealed")).id);
    });
  });

  describe("addons", () => {
    const digest = createHash("sha256").update(SEALABLE_PROGRAM).digest("hex");
    const runtime = `/boot/loader/addons/bootc-runtime-${digest.slice(0, 32)}.addon.efi`;

    test("are signed with the kernel, and stay when it is sealed anew", async () => {
      const stub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub";
      await rig.tool(
        "ukify",
        "build",
        "--stub",
        stub,
        "--cmdline",
        "debug",
        "--output",
        at("debug.addon.efi"),
      );
      await seal(
        ...rig.secureBoot,
        "--addon",
        at("debug.addon.efi"),
        layout("plain"),
        layout("addons"),
      );
      const addon = { path: `/${SEALED_KERNEL}.extra.d/debug.addon.efi`, signature: "good" };
      const report = await verify("addons", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ findings: [], warnings: [] });
      expect(report.programs).toContainEqual(addon);
      rig.derive("addons", "addons-more", [
        { tar: await makeTar([dir("usr"), file("usr/x", "x")]) },
      ]);
      await seal(...rig.secureBoot, "--reseal", layout("addons-more"), layout("addons-again"));
      const again = await verify("addons-again", "--certificate", at("db.crt"));
      expect(again.findings).toEqual([]);
      expect(again.programs).toContainEqual(addon);
    });

    test("that are none are refused", async () => {
      writeFileSync(at("text.addon.efi"), "text");
      const add = (name: string) =>
        seal("--unsigned", "--addon", at(name), layout("plain"), layout("x"));
      await expect(add("text.addon.efi")).rejects.toThrow("text.addon.efi");
      await expect(add("missing.addon.efi")).rejects.toThrow("is no addon");
      await expect(add("out.efi")).rejects.toThrow("is no addon");
    });

    test("one has the program for all kernels", async () => {
      mkdirSync(at("runtime"));
      writeLayout(at("runtime"), [await makeSealable({ tag: "x", runtimeDigest: digest })]);
      const image = `oci:${at("runtime")}:x`;
      await seal(...rig.secureBoot, "--shared-runtime", image, layout("runtime"));
      const report = await verify("runtime", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ findings: [], warnings: [] });
      expect(report.programs).toContainEqual({ path: runtime, signature: "good" });
      const bytes = rig.readTop("runtime").get(runtime.slice(1))!;
      writeFileSync(at("runtime.efi"), bytes);
      using addon = openUki(at("runtime.efi"));
      const archive = gunzipSync(
        Buffer.concat([...addon.readChunks(".initrd")].map((each) => Buffer.from(each))),
      );
      expect(archive.includes(`usr/lib/bootc/runtime/${digest}/prepare-root`)).toBe(true);
      expect(archive.includes(SEALABLE_PROGRAM)).toBe(true);
      // Sealed anew, the initramfs still needs it, and the boot partition has it already.
      rig.derive("runtime", "runtime-more", [
        { tar: await makeTar([dir("usr"), file("usr/x", "x")]) },
      ]);
      await seal(...rig.secureBoot, "--reseal", layout("runtime-more"), layout("runtime-again"));
      expect(rig.readTop("runtime-again").get(runtime.slice(1))!.equals(bytes)).toBe(true);
      // Once signed it is good for other images.
      const given = at(runtime.slice(runtime.lastIndexOf("/") + 1));
      writeFileSync(given, bytes);
      await seal(...rig.secureBoot, "--addon", given, image, layout("runtime-given"));
      expect(rig.readTop("runtime-given").get(runtime.slice(1))!.equals(bytes)).toBe(true);
      const lacking = seal(...rig.secureBoot, image, layout("x"));
      await expect(lacking).rejects.toThrow('seal it with "--shared-runtime"');
    });

    test("beside a program in the initramfs it is of no use", async () => {
      await seal(...rig.secureBoot, "--shared-runtime", layout("zstd"), layout("twice"));
      const report = await verify("twice", "--certificate", at("db.crt"));
      expect(report.warnings).toEqual([expect.stringContaining("set bootc_program=addon")]);
    });
  });

  test("--dry-run says what would be done, and does nothing", async () => {
    const before = readdirSync(at("images/blobs/sha256"));
    const index = readFileSync(at("images/index.json"), "utf8");
    const plan = JSON.parse(await seal("--unsigned", "--dry-run", layout("plain"), layout("dry")));
    const { id } = await verify("sealed");
    expect(plan).toMatchObject({
      kind: "seal",
      mode: "sealed",
      digest: id,
      cmdline: `${SEALABLE_KARGS} composefs=${id} ${TRIAL}`,
      hidden: ["usr/lib/modules/6.12/vmlinuz", "usr/lib/modules/6.12/initramfs.img"],
    });
    expect(readdirSync(at("images/blobs/sha256"))).toEqual(before);
    expect(readFileSync(at("images/index.json"), "utf8")).toBe(index);
  });

  test("an image that is neither sealed nor signed is called unlocked", async () => {
    const report = await verify("plain");
    expect(report).toMatchObject({ mode: "unlocked", verity: "optional", findings: [] });
    expect(report.warnings).toEqual([expect.stringContaining("Nothing proves what starts")]);
    const { findings } = await verify("plain", "--certificate", at("db.crt"));
    expect(findings).toEqual([expect.stringContaining("has no unified kernel")]);
  });

  test("nothing of a command stays behind", () => {
    const names = readdirSync(rig.scratch).filter((name) => name.startsWith("bootc-container-"));
    expect(names).toEqual([]);
    expect(readdirSync(at("images/blobs/sha256")).filter((name) => name.startsWith("."))).toEqual(
      [],
    );
  });
});
