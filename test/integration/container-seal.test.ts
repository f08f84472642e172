// `bootc container seal` and `verify` with the real ukify, sbsign and sbverify, on images with a real kernel.

import { createHash, generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openUki } from "../../updater/boot/uki.ts";
import { packMembers } from "../support/archive-builder.ts";
import { makePrograms } from "../support/doc-commands.ts";
import { blobFile, type TestImage, writeLayout } from "../support/oci-builder.ts";
import { run } from "../support/run.ts";
import { makeInitramfs, makeSealable, SEALABLE_PROGRAM } from "../support/sealable-image.ts";
import { dir, file, makeTar } from "../support/small-os.ts";
import { ROOT } from "../support/source-tree.ts";
import { ensureDebianKernel } from "../vm/debian-kernel.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const KARGS = "console=ttyS0 quiet";
const UKI = "boot/EFI/Linux/6.12.efi";

interface Report {
  readonly mode: string;
  readonly id: string;
  readonly cmdline: string | null;
  readonly verity: string;
  readonly programs: readonly { readonly path: string; readonly signature: string }[];
  readonly statement: { readonly version: number; readonly key: { readonly name: string } } | null;
  readonly findings: readonly string[];
  readonly warnings: readonly string[];
}

interface Manifest {
  readonly mediaType: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly mediaType: string }[];
}

describe.skipIf(notRoot !== "")(`container seal${notRoot}`, () => {
  const scratch = mkdtempSync(join(tmpdir(), "container-seal-"));
  const at = (name: string) => join(scratch, name);
  const layout = (name: string) => `oci:${at("images")}:${name}`;
  const secureBoot = ["--secureboot-key", at("db.key"), "--secureboot-certificate", at("db.crt")];
  let programs: string;

  async function call(...words: readonly string[]): Promise<string> {
    const bun = join(ROOT, "node_modules/.bin/bun");
    const env = { PATH: `${programs}:${process.env["PATH"]}`, TMPDIR: scratch };
    return await run([bun, join(ROOT, "main.ts"), ...words], { env, cwd: scratch });
  }
  const seal = (...words: readonly string[]) => call("container", "seal", ...words);
  const tool = (...words: readonly string[]) =>
    run([join(programs, words[0]!), ...words.slice(1)], { cwd: scratch });

  /** Also when there are findings, which make it fail. */
  async function verify(name: string, ...words: readonly string[]): Promise<Report> {
    const file = at("report");
    const script = '"$@" >"$0" || true';
    const bun = [join(ROOT, "node_modules/.bin/bun"), join(ROOT, "main.ts")];
    const command = [...bun, "container", "verify", "--format", "json", ...words, layout(name)];
    const env = { PATH: `${programs}:${process.env["PATH"]}`, TMPDIR: scratch };
    await run(["sh", "-c", script, file, ...command], { env, cwd: scratch });
    return JSON.parse(readFileSync(file, "utf8"));
  }

  const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));
  function readManifest(name: string): Manifest & { readonly digest: string } {
    const { manifests } = readJson(at("images/index.json"));
    const entry = manifests.find(
      (each: { annotations?: Record<string, string> }) =>
        each.annotations?.["org.opencontainers.image.ref.name"] === name,
    );
    return { ...readJson(blobFile(at("images"), entry.digest)), digest: entry.digest };
  }

  /** Paths of the last layer, and the contents of its files. */
  function readTop(name: string): ReadonlyMap<string, Buffer> {
    const { digest } = readManifest(name).layers.at(-1)!;
    const tar = gunzipSync(readFileSync(blobFile(at("images"), digest)));
    const members = new Map<string, Buffer>();
    for (let offset = 0; tar[offset] !== 0; ) {
      const text = (from: number, length: number) =>
        tar.toString("latin1", offset + from, offset + from + length).replace(/\0.*$/s, "");
      const size = Number.parseInt(text(124, 12), 8);
      const isPax = tar[offset + 156] === 0x78;
      if (!isPax) members.set(text(0, 100), tar.subarray(offset + 512, offset + 512 + size));
      offset += 512 + Math.ceil(size / 512) * 512;
    }
    return members;
  }

  const readSection = async (path: string, name: string) => {
    const text = await tool("ukify", "inspect", path, "--section", `${name}:text`, "--json=short");
    return (JSON.parse(text) as Record<string, { text: string }>)[name]?.text ?? null;
  };

  beforeAll(async () => {
    programs = await makePrograms(at("programs"), {
      tools: { ukify: [], sbsign: [], sbverify: [], openssl: [] },
      image: {},
    });
    for (const name of ["db", "other"]) {
      const files = ["-keyout", at(`${name}.key`), "-out", at(`${name}.crt`)];
      const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${name}/`];
      await tool("openssl", ...words, ...files);
    }
    writeLayout(at("images"), [
      await makeSealable({ tag: "plain" }),
      await makeSealable({ tag: "zstd", compression: "zstd" }),
      await makeSealable({ tag: "real", compression: "zstd", realKernel: true }),
    ]);
    await seal(...secureBoot, layout("plain"), layout("sealed"));
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  /** `name` with one more layer, as a build that starts from it makes it. */
  function derive(name: string, tag: string, layers: TestImage["layers"]): void {
    const [image] = writeLayout(at("derived"), [{ tag, layers }]);
    const manifest = readManifest(name);
    const config = readJson(blobFile(at("images"), manifest.config.digest));
    for (const { digest } of image!.layers) {
      writeFileSync(blobFile(at("images"), digest), readFileSync(blobFile(at("derived"), digest)));
    }
    const put = (value: object) => {
      const bytes = Buffer.from(JSON.stringify(value));
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      writeFileSync(blobFile(at("images"), digest), bytes);
      return { digest, size: bytes.length };
    };
    const added = image!.layers.map(({ diffId: _, ...descriptor }) => descriptor);
    const diffIds = [...config.rootfs.diff_ids, ...image!.layers.map(({ diffId }) => diffId)];
    const next = {
      ...config,
      rootfs: { type: "layers", diff_ids: diffIds },
      history: [...(config.history ?? []), ...added.map(() => ({ created_by: "RUN change" }))],
    };
    const { digest: _, ...rest } = manifest;
    const changed = {
      ...rest,
      config: { ...manifest.config, ...put(next) },
      layers: [...manifest.layers, ...added],
    };
    const entry = {
      mediaType: manifest.mediaType,
      ...put(changed),
      annotations: { "org.opencontainers.image.ref.name": tag },
    };
    const index = readJson(at("images/index.json"));
    index.manifests = [...index.manifests, entry];
    writeFileSync(at("images/index.json"), JSON.stringify(index));
  }

  describe("a sealed image", () => {
    test("is what machines compute, and firmware accepts its kernel", async () => {
      const report = await verify("sealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({
        mode: "sealed",
        verity: "required",
        findings: [],
        warnings: [],
      });
      expect(report.programs).toEqual([{ path: `/${UKI}`, signature: "good" }]);
      expect(report.cmdline).toBe(`${KARGS} composefs=${report.id}`);
      await call("internals", "cfs", "--repo", at("repo"), "init", "--insecure");
      const words = ["--repo", at("repo"), "oci", "pull", "--bootable", layout("sealed"), "x"];
      const pulled = await call("internals", "cfs", ...words);
      expect(pulled).toContain(`Boot image: ${report.id}\n`);
    });

    test("has a unified kernel of its own parts", async () => {
      const { vmlinuz } = await ensureDebianKernel("trixie");
      await seal(...secureBoot, layout("real"), layout("real-sealed"));
      const report = await verify("real-sealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ mode: "sealed", findings: [], warnings: [] });
      const path = at("sealed.efi");
      writeFileSync(path, readTop("real-sealed").get(UKI)!);
      expect(await readSection(path, ".uname")).toBe("6.12");
      expect(await readSection(path, ".osrel")).toContain('PRETTY_NAME="Debian 13"');
      await call("internals", "uki", "extract", path, at("parts"));
      const part = (name: string) => readFileSync(at(`parts/6.12/${name}`));
      expect(part("vmlinuz").equals(readFileSync(vmlinuz))).toBe(true);
      const initramfs = makeInitramfs({ compression: "zstd" });
      expect(part("initramfs.img").subarray(0, initramfs.length).equals(initramfs)).toBe(true);
    });

    test("keeps layers, annotations and config of the image, and adds one layer", () => {
      const [before, after] = [readManifest("plain"), readManifest("sealed")];
      expect(after.annotations).toEqual(before.annotations);
      expect(after.layers.slice(0, -1)).toEqual(before.layers);
      const config = (manifest: Manifest) =>
        readJson(blobFile(at("images"), manifest.config.digest));
      const { rootfs, history, ...rest } = config(after);
      const { rootfs: rootfsBefore, ...restBefore } = config(before);
      expect(rest).toEqual(restBefore);
      expect(rootfs.diff_ids.slice(0, -1)).toEqual(rootfsBefore.diff_ids);
      expect(history).toEqual([
        { created: "2025-01-02T03:04:05Z", created_by: "bootc container seal" },
      ]);
      expect([...readTop("sealed").keys()]).toEqual([
        ...["boot/", "boot/EFI/", "boot/EFI/Linux/", UKI, `${UKI}.dump`],
        ...["usr/", "usr/lib/", "usr/lib/modules/", "usr/lib/modules/6.12/"],
        "usr/lib/modules/6.12/.wh.initramfs.img",
        "usr/lib/modules/6.12/.wh.vmlinuz",
      ]);
    });

    test("is the same bytes every time, but for the time in a signature", async () => {
      for (const name of ["again-1", "again-2"])
        await seal("--unsigned", layout("plain"), layout(name));
      const [one, two] = [readManifest("again-1"), readManifest("again-2")];
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
      const fails = call("container", "verify", "--certificate", at("other.crt"), layout("sealed"));
      await expect(fails).rejects.toThrow("must not ship: 1 finding");
    });

    test("that tolerates files without fs-verity is called weaker", async () => {
      await seal("--unsigned", "--allow-missing-verity", layout("plain"), layout("weak"));
      const report = await verify("weak");
      expect(report.cmdline).toBe(`${KARGS} composefs=?${report.id}`);
      expect(report.verity).toBe("optional");
      expect(report.warnings).toContainEqual(expect.stringContaining("without fs-verity start"));
    });

    test("has the arguments that were asked for behind its digest", async () => {
      await seal("--unsigned", "--karg", "rw", "--karg", "a=b c", layout("plain"), layout("kargs"));
      const { cmdline, id, findings } = await verify("kargs");
      expect(findings).toEqual([]);
      expect(cmdline).toBe(`${KARGS} composefs=${id} rw a=b c`);
    });

    test("comes from transports that have the tars only", async () => {
      const { layers } = await makeSealable({ tag: "plain" });
      const members = layers.map(({ tar }, index) => ({ name: `${index}.tar`, content: tar }));
      const config = readFileSync(blobFile(at("images"), readManifest("plain").config.digest));
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
      expect(readManifest("from-tars").layers.slice(0, -1)).toEqual(
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
      derive("sealed", "derived", [{ tar: await makeTar([dir("usr"), file("usr/bin/new", "n")]) }]);
    });

    test("is found, with the first difference", async () => {
      const { findings } = await verify("derived", "--certificate", at("db.crt"));
      expect(findings).toEqual([
        expect.stringMatching(/the first difference is "\/usr\/bin\/new"/),
      ]);
    });

    test("is sealed anew on demand only", async () => {
      const again = (...words: string[]) =>
        seal(...secureBoot, ...words, layout("derived"), layout("resealed"));
      await expect(again()).rejects.toThrow('is sealed already, with "/boot/EFI/Linux/6.12.efi"');
      await again("--reseal");
      const report = await verify("resealed", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ mode: "sealed", findings: [], warnings: [] });
      expect(report.id).not.toBe((await verify("sealed")).id);
      expect(readManifest("resealed").layers).toHaveLength(5);
    });

    test("sealed anew as it was, the old layer is not kept", async () => {
      await seal(...secureBoot, "--reseal", layout("sealed"), layout("same"));
      const [before, after] = [readManifest("sealed"), readManifest("same")];
      expect(after.layers).toHaveLength(before.layers.length);
      expect((await verify("same")).id).toBe((await verify("sealed")).id);
    });
  });

  describe("keys that exist for one image", () => {
    let shared: readonly string[];
    const one = () =>
      seal(
        "--mode",
        "signed",
        "--ephemeral",
        "--certificate-out",
        at("one.crt"),
        layout("plain"),
        layout("one"),
      );

    test("sign kernel and statement, and are gone", async () => {
      shared = readdirSync("/dev/shm");
      await one();
      const report = await verify("one", "--certificate", at("one.crt"));
      expect(report).toMatchObject({
        mode: "ephemeral",
        cmdline: null,
        findings: [],
        warnings: [],
      });
      expect(report.statement).toMatchObject({ version: 1, key: { name: "ephemeral.pub" } });
      const left = readdirSync("/dev/shm").filter((name) => !shared.includes(name));
      expect(left.filter((name) => name.startsWith("bootc-"))).toEqual([]);
      const secrets = readdirSync(scratch, { recursive: true, encoding: "utf8" }).filter((name) =>
        /\.(?:crt|pub|pem)$/.test(name),
      );
      for (const name of secrets) expect(readFileSync(at(name), "latin1")).not.toContain("PRIVATE");
    });

    test("are others every time", async () => {
      const before = readFileSync(at("one.crt"), "utf8");
      const key = (await verify("one")).statement!.key;
      await one();
      expect(readFileSync(at("one.crt"), "utf8")).not.toBe(before);
      expect((await verify("one")).statement!.key).not.toEqual(key);
    });

    test("of the image before do not stay when it is sealed anew", async () => {
      derive("one", "one-more", [{ tar: await makeTar([dir("usr"), file("usr/bin/new", "n")]) }]);
      const { findings } = await verify("one-more");
      expect(findings).toEqual([expect.stringContaining("statement for another one")]);
      await seal("--unsigned", "--reseal", layout("one-more"), layout("one-sealed"));
      const report = await verify("one-sealed");
      expect(report).toMatchObject({ mode: "sealed", statement: null, findings: [] });
      expect(readManifest("one-sealed").annotations).toEqual(readManifest("plain").annotations);
    });
  });

  describe("keys that stay", () => {
    const makeKey = (name: string): string => {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      writeFileSync(at(name), privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600 });
      const text = publicKey.export({ format: "pem", type: "spki" }).toString();
      writeFileSync(at(`${name}.pub`), text);
      return text;
    };
    const addImage = async (image: Parameters<typeof makeSealable>[0]) => {
      const directory = mkdtempSync(at("more-"));
      writeLayout(directory, [await makeSealable(image)]);
      return `oci:${directory}:${image.tag}`;
    };
    const signed = (image: string, ...words: readonly string[]) =>
      seal(
        "--mode",
        "signed",
        "--unsigned",
        "--key",
        at("release"),
        ...words,
        image,
        layout("signed"),
      );

    test("sign the statement; the image's own initramfs knows them", async () => {
      const trust = { "keys.d/release.pub": makeKey("release") };
      const image = await addImage({ tag: "keys", trust });
      await signed(image, "--version", "7", "--expires", "2999-01-01");
      const report = await verify("signed", "--key", at("release.pub"));
      expect(report).toMatchObject({ mode: "signed", cmdline: null, findings: [] });
      expect(report.statement).toMatchObject({ version: 7, expires: "2999-01-01T00:00:00Z" });
      makeKey("stranger");
      const { findings } = await verify("signed", "--key", at("stranger.pub"));
      expect(findings).toEqual([expect.stringContaining("Refused by the given keys")]);
    });

    test("that no initramfs would accept do not seal", async () => {
      const trust = { "keys.d/other.pub": makeKey("other-release") };
      const image = await addImage({ tag: "strangers", trust });
      await expect(signed(image, "--version", "7")).rejects.toThrow(
        "signed by no key that is trusted",
      );
      const sealed = seal("--unsigned", image, layout("strangers"));
      await expect(sealed).rejects.toThrow("is not signed, and this machine wants a signature");
      const names = readJson(at("images/index.json")).manifests.map(
        (each: { annotations: Record<string, string> }) => Object.values(each.annotations)[0],
      );
      expect(names).not.toContain("strangers");
    });

    test.each([
      [{}, "is in the image, but not in the initramfs"],
      [{ "keys.d/release.pub": "other" }, "is another one in the initramfs"],
    ])("that are not those of the initramfs do not seal: %j", async (initramfsTrust, message) => {
      const trust = { "keys.d/release.pub": readFileSync(at("release.pub"), "utf8") };
      const image = await addImage({ tag: "stale", trust, initramfsTrust });
      await expect(signed(image, "--version", "7")).rejects.toThrow(message);
    });

    test.each([
      ["an expired statement", {}, ["--expires", "2001-01-01"], "expired at 2001-01-01"],
      ["a key that the image revokes", { revokes: true }, [], "which is revoked"],
    ])(
      "%s does not seal",
      async (_, { revokes = false }: { revokes?: boolean }, words, message) => {
        const key = readFileSync(at("release.pub"), "utf8");
        const der = Buffer.from(key.replaceAll(/-.*-|\s/g, ""), "base64");
        const fingerprint = createHash("sha256").update(der.subarray(-32)).digest("hex");
        const trust: Record<string, string> = { "keys.d/release.pub": key };
        if (revokes) trust["revoked.d/list"] = `key ${fingerprint}\n`;
        const image = await addImage({ tag: "refused", trust });
        await expect(signed(image, "--version", "7", ...words)).rejects.toThrow(message);
      },
    );
  });

  describe("signing outside", () => {
    const complete = (...words: readonly string[]) =>
      seal(
        ...words.flatMap((word) => ["--signed-uki", at(word)]),
        layout("unsigned"),
        layout("outside"),
      );
    const sbsign = (from: string, to: string, name = "db") =>
      tool(
        "sbsign",
        "--key",
        at(`${name}.key`),
        "--cert",
        at(`${name}.crt`),
        "--output",
        at(to),
        at(from),
      );

    test("the kernel goes out, comes back, and nothing else changes", async () => {
      await seal(
        "--mode",
        "signed",
        "--unsigned-uki-out",
        at("out.efi"),
        layout("plain"),
        layout("unsigned"),
      );
      await sbsign("out.efi", "signed.efi");
      await complete("signed.efi");
      const report = await verify("outside", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ mode: "ephemeral", findings: [], warnings: [] });
      const [before, after] = [readTop("unsigned"), readTop("outside")];
      expect([...after.keys()]).toEqual([...before.keys()]);
      for (const [name, bytes] of before) {
        expect(bytes.equals(after.get(name)!), name).toBe(name !== UKI);
      }
      expect(after.get(UKI)!.equals(readFileSync(at("signed.efi")))).toBe(true);
      const annotations = [readManifest("unsigned"), readManifest("outside")].map(
        (each) => each.annotations,
      );
      expect(annotations[0]).toEqual(annotations[1]);
    });

    test("a kernel that is another one is refused", async () => {
      const changed = readFileSync(at("out.efi"));
      changed[changed.length - 600]! ^= 1;
      writeFileSync(at("changed.efi"), changed);
      await sbsign("changed.efi", "changed-signed.efi");
      await expect(complete("changed-signed.efi")).rejects.toThrow(
        /is none of the programs of this image; from the kernel it differs at byte \d+/,
      );
    });

    test("one that was not signed, and one signed by another key", async () => {
      await expect(complete("out.efi")).rejects.toThrow("has no signature");
      await sbsign("out.efi", "other.efi", "other");
      const words = ["--secureboot-certificate", at("db.crt"), "--signed-uki", at("other.efi")];
      const wrong = seal(...words, layout("unsigned"), layout("wrong"));
      await expect(wrong).rejects.toThrow("not signed for Secure Boot by any");
    });

    test("of an image that was not sealed here, or was changed since", async () => {
      const words = ["--signed-uki", at("signed.efi")];
      await expect(seal(...words, layout("plain"), layout("x"))).rejects.toThrow("was not made by");
      derive("unsigned", "moved", [{ tar: await makeTar([dir("usr"), file("usr/bin/n", "n")]) }]);
      await expect(seal(...words, layout("moved"), layout("x"))).rejects.toThrow("was not made by");
    });
  });

  describe("addons", () => {
    const digest = createHash("sha256").update(SEALABLE_PROGRAM).digest("hex");
    const runtime = `/boot/loader/addons/bootc-runtime-${digest.slice(0, 32)}.addon.efi`;

    test("are signed with the kernel, and stay when it is sealed anew", async () => {
      const stub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub";
      await tool(
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
        ...secureBoot,
        "--addon",
        at("debug.addon.efi"),
        layout("plain"),
        layout("addons"),
      );
      const addon = { path: `/${UKI}.extra.d/debug.addon.efi`, signature: "good" };
      const report = await verify("addons", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ findings: [], warnings: [] });
      expect(report.programs).toContainEqual(addon);
      derive("addons", "addons-more", [{ tar: await makeTar([dir("usr"), file("usr/x", "x")]) }]);
      await seal(...secureBoot, "--reseal", layout("addons-more"), layout("addons-again"));
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
      await seal(...secureBoot, "--shared-runtime", image, layout("runtime"));
      const report = await verify("runtime", "--certificate", at("db.crt"));
      expect(report).toMatchObject({ findings: [], warnings: [] });
      expect(report.programs).toContainEqual({ path: runtime, signature: "good" });
      const bytes = readTop("runtime").get(runtime.slice(1))!;
      writeFileSync(at("runtime.efi"), bytes);
      using addon = openUki(at("runtime.efi"));
      const archive = gunzipSync(
        Buffer.concat([...addon.readChunks(".initrd")].map((each) => Buffer.from(each))),
      );
      expect(archive.includes(`usr/lib/bootc/runtime/${digest}/prepare-root`)).toBe(true);
      expect(archive.includes(SEALABLE_PROGRAM)).toBe(true);
      const lacking = seal(...secureBoot, image, layout("x"));
      await expect(lacking).rejects.toThrow('seal it with "--shared-runtime"');
    });

    test("beside a program in the initramfs it is of no use", async () => {
      await seal(...secureBoot, "--shared-runtime", layout("zstd"), layout("twice"));
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
      cmdline: `${KARGS} composefs=${id}`,
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
    const names = readdirSync(scratch).filter((name) => name.startsWith("bootc-container-"));
    expect(names).toEqual([]);
    expect(readdirSync(at("images/blobs/sha256")).filter((name) => name.startsWith("."))).toEqual(
      [],
    );
  });
});
