// Who signs what `bootc container seal` makes: keys for one image, keys that stay, and somebody elsewhere. With the real
// ukify, sbsign and sbverify.

import { createHash, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCertificate, requireKeyOf } from "../../updater/container/secure-boot-key.ts";
import { writeLayout } from "../support/oci-builder.ts";
import { makeSealRig, SEALED_KERNEL, type SealRig } from "../support/seal-rig.ts";
import { makeSealable } from "../support/sealable-image.ts";
import { dir, file, makeTar } from "../support/small-os.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";

describe.skipIf(notRoot !== "")(`keys of container seal${notRoot}`, () => {
  let rig: SealRig;
  const at = (name: string) => rig.at(name);
  const layout = (name: string) => rig.layout(name);
  const seal = (...words: readonly string[]) => rig.seal(...words);
  const verify = (name: string, ...words: readonly string[]) => rig.verify(name, ...words);

  beforeAll(async () => {
    rig = await makeSealRig([await makeSealable({ tag: "plain" })]);
  });
  afterAll(() => rig?.remove());

  describe("keys that cannot sign are refused before anything is done", () => {
    const CERTIFICATE = "--secureboot-certificate";
    test.each<[string, readonly string[], string]>([
      ["no file", ["nokey", "db.crt"], 'Cannot read the key "KEY/nokey"'],
      ["no certificate", ["db.key", "nocert"], 'Cannot read the certificate "KEY/nocert"'],
      ["another's", ["db.key", "other.crt"], "is not the key of the certificate"],
      ["exchanged", ["db.crt", "db.key"], "is no private key in PEM"],
      ["no certificate but a key", ["db.key", "db.key"], "is no certificate, in PEM or DER"],
    ])("%s", async (_, [key, certificate], message) => {
      const words = ["--secureboot-key", at(key!), CERTIFICATE, at(certificate!)];
      const before = readdirSync(rig.scratch);
      await expect(seal(...words, layout("plain"), `oci:${at("new")}:x`)).rejects.toThrow(
        message.replace("KEY", rig.scratch),
      );
      expect(readdirSync(rig.scratch)).toEqual(before);
    });

    test.each([
      ["ed25519", ["ed25519"]],
      ["unknown", ["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"]],
    ])("one of a kind that signs no EFI program: %s", async (kind, algorithm) => {
      const [key, certificate] = [at(`${kind}.key`), at(`${kind}.crt`)];
      await makePair(key, certificate, algorithm);
      const words = ["--certificate", certificate, layout("plain")];
      await expect(rig.call("container", "verify", ...words)).rejects.toThrow(
        `"${certificate}" has a key of type ${kind}, which signs no EFI program`,
      );
      const keys = ["--secureboot-key", key, CERTIFICATE, certificate];
      await expect(seal(...keys, layout("plain"), layout("x"))).rejects.toThrow(
        /signs no EFI program|is no private key in PEM/,
      );
    });

    test("one of elliptic curves signs, with a warning", async () => {
      const curve = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
      await makePair(at("ec.key"), at("ec.crt"), curve);
      const { warnings } = readCertificate(at("ec.crt"));
      expect(warnings).toEqual([expect.stringContaining("much firmware cannot check")]);
      expect(() => requireKeyOf(at("ec.crt"), at("ec.key"))).not.toThrow();
    });

    const makePair = (key: string, certificate: string, algorithm: readonly string[]) => {
      const files = ["-keyout", key, "-out", certificate, "-subj", "/CN=kind/", "-nodes"];
      return rig.tool("openssl", "req", "-x509", ...files, "-newkey", ...algorithm);
    };

    test("one that is encrypted; and nowhere to give a certificate or kernel out to", async () => {
      const encrypted = ["-aes256", "-passout", "pass:x", "-out", at("enc.key")];
      await rig.tool("openssl", "pkey", "-in", at("db.key"), ...encrypted);
      const keys = ["--secureboot-key", at("enc.key"), CERTIFICATE, at("db.crt")];
      await expect(seal(...keys, layout("plain"), layout("x"))).rejects.toThrow("is encrypted");
      const out = seal("--unsigned-uki-out", at("no/x.efi"), layout("plain"), layout("x"));
      await expect(out).rejects.toThrow(/There is no directory "[^"]*no" for/);
      const crt = seal(
        "--ephemeral",
        "--certificate-out",
        scratchOf(),
        layout("plain"),
        layout("x"),
      );
      await expect(crt).rejects.toThrow("is a directory; name a file");
    });
    const scratchOf = () => rig.scratch;
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
      const secrets = readdirSync(rig.scratch, { recursive: true, encoding: "utf8" }).filter(
        (name) => /\.(?:crt|pub|pem)$/.test(name),
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
      rig.derive("one", "one-more", [
        { tar: await makeTar([dir("usr"), file("usr/bin/new", "n")]) },
      ]);
      const { findings } = await verify("one-more");
      expect(findings).toEqual([expect.stringContaining("statement for another one")]);
      await seal("--unsigned", "--reseal", layout("one-more"), layout("one-sealed"));
      const report = await verify("one-sealed");
      expect(report).toMatchObject({ mode: "sealed", statement: null, findings: [] });
      expect(rig.readManifest("one-sealed").annotations).toEqual(
        rig.readManifest("plain").annotations,
      );
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
      const names = rig.readTags();
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
      rig.tool(
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
      const [before, after] = [rig.readTop("unsigned"), rig.readTop("outside")];
      expect([...after.keys()]).toEqual([...before.keys()]);
      for (const [name, bytes] of before) {
        expect(bytes.equals(after.get(name)!), name).toBe(name !== SEALED_KERNEL);
      }
      expect(after.get(SEALED_KERNEL)!.equals(readFileSync(at("signed.efi")))).toBe(true);
      const annotations = [rig.readManifest("unsigned"), rig.readManifest("outside")].map(
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
      rig.derive("unsigned", "moved", [
        { tar: await makeTar([dir("usr"), file("usr/bin/n", "n")]) },
      ]);
      await expect(seal(...words, layout("moved"), layout("x"))).rejects.toThrow("was not made by");
    });
  });
});
