// What makes an image bad, one thing at a time, on images without layers from anywhere: no programs are needed for this. What
// needs them is in test/integration/container-seal.test.ts.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { writeCpio } from "../../shared/format/cpio/writer.ts";
import { formatSignedStatement, formatStatement } from "../../shared/format/trust/statement.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { type ScratchImage, writeScratchImage } from "../../test/support/scratch-image.ts";
import type { TarMember } from "../../test/support/tar-builder.ts";
import { buildUki, type UkiSections } from "../../test/support/uki-builder.ts";
import { measureScratchImage } from "../../test/support/unified-image.ts";
import { pullImage } from "../image/pull.ts";
import { makeImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { createEphemeralKey, makeKeyArchive } from "./ephemeral-key.ts";
import { signStatement } from "./signing-key.ts";
import { type VerifyReport, verifyImage } from "./verify.ts";

const scratch = mkdtempSync(join(tmpdir(), "verify-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const VERSION = "1";
const BASE: ScratchImage = { version: VERSION };
const OPTIONAL_AT = 128 + 24;
const KEY = createEphemeralKey();

const cpio = (path: string, text: string) =>
  Buffer.concat([
    ...writeCpio([{ path, mode: 0o644, sizeBytes: text.length, content: [Buffer.from(text)] }]),
  ]);
const INITRAMFS = gzipSync(cpio("usr/lib/bootc/prepare-root", "program"));

/** With what signers look for. */
function program(sections: UkiSections): Buffer {
  const bytes = Buffer.from(buildUki(sections));
  bytes.writeUInt16LE(0x20b, OPTIONAL_AT);
  bytes.writeUInt32LE(16, OPTIONAL_AT + 108);
  return bytes;
}

const kernel = (cmdline: string | null, more: UkiSections = [], initrd: Uint8Array = INITRAMFS) =>
  program([
    ...(cmdline === null ? [] : [[".cmdline", cmdline] as const]),
    [".linux", "kernel"],
    [".initrd", initrd],
    ...more,
  ]);

function withKernel(content: Buffer, members: readonly TarMember[] = []): ScratchImage {
  const directories = ["boot/EFI/", "boot/EFI/Linux/"].map((name) => ({ name, type: "5" }));
  const uki = { name: "boot/EFI/Linux/os.efi", content };
  return { ...BASE, members: [...directories, uki, ...members] };
}

/** With a table of signatures, and bytes after it. */
function withTail(bytes: Buffer): Buffer {
  const signed = Buffer.concat([bytes, Buffer.alloc(16)]);
  signed.writeUInt32LE(bytes.length, OPTIONAL_AT + 112 + 4 * 8);
  signed.writeUInt32LE(8, OPTIONAL_AT + 112 + 4 * 8 + 4);
  return signed;
}

let count = 0;

async function verify(
  image: ScratchImage,
  documents: readonly string[] = [],
  certificates: readonly string[] = [],
): Promise<VerifyReport> {
  const directory = join(scratch, String(++count));
  writeScratchImage(directory, image);
  const config = { algorithm: "sha512", secure: false } as const;
  using repo = ensureRepository(null, `${directory}.repo`, config);
  const pulled = await pullImage(repo, openSource(makeImageReference("oci", directory)));
  const request = { certificates, keys: [], now: new Date(), directory };
  const bytes = documents.map((text) => Buffer.from(text));
  return await verifyImage(repo, pulled, bytes, request);
}

describe("an image that must not ship", async () => {
  const { id, id2 } = await measureScratchImage(BASE);
  const own = makeKeyArchive(KEY.publicKey);
  const sealed = `quiet composefs=${id}`;
  const revoked = (text: string): TarMember[] => [
    ...["usr/lib/bootc/", "usr/lib/bootc/trust/", "usr/lib/bootc/trust/revoked.d/"].map((name) => ({
      name,
      type: "5",
    })),
    { name: "usr/lib/bootc/trust/revoked.d/list", content: text },
  ];

  test("and one that may", async () => {
    const report = await verify(withKernel(kernel(sealed)));
    expect(report).toMatchObject({ mode: "sealed", id, verity: "required", findings: [] });
    expect(report.kernel).toEqual({ version: "os", unified: true });
    const other = await verify(withKernel(kernel(`composefs=${id2}`)));
    expect(other).toMatchObject({ mode: "sealed", findings: [] });
  });

  const key: UkiSections = [[".bkeys", KEY.publicKey]];
  test.each<[string, ScratchImage, RegExp]>([
    [
      "a digest of something else",
      withKernel(kernel(`composefs=${"0".repeat(128)}`)),
      /is not the one that/,
    ],
    [
      "two digests",
      withKernel(kernel(`${sealed} composefs=${"0".repeat(128)}`)),
      /is not the one that/,
    ],
    ["a command line without one", withKernel(kernel("quiet")), /names no image/],
    ["a malformed one", withKernel(kernel("composefs=12")), /command line .* wrong|composefs/],
    [
      "no kernel in the kernel",
      withKernel(program([[".initrd", "i"]])),
      /has no section "\.linux"/,
    ],
    [
      "no initramfs in the kernel",
      withKernel(program([[".linux", "k"]])),
      /has no section "\.initrd"/,
    ],
    [
      "a kernel that is no program",
      withKernel(Buffer.from("text".repeat(99))),
      /os\.efi" is no unified kernel/,
    ],
    [
      "a key that its initramfs lacks",
      withKernel(kernel(null, key)),
      /its initramfs does not end with that key/,
    ],
    [
      "another key in its initramfs",
      withKernel(
        kernel(
          null,
          key,
          Buffer.concat([INITRAMFS, makeKeyArchive(createEphemeralKey().publicKey)]),
        ),
      ),
      /its initramfs does not end with that key/,
    ],
    [
      "no statement, but a key",
      withKernel(kernel(null, key, Buffer.concat([INITRAMFS, own]))),
      /is not signed/,
    ],
    [
      "a trust directory that is wrong",
      withKernel(kernel(null), revoked("nonsense")),
      /neither "digest/,
    ],
  ])("%s", async (_, image, message) => {
    const { findings } = await verify(image);
    expect(findings.join("\n")).toMatch(message);
  });

  const withAddon = (name: string, sections: UkiSections): ScratchImage =>
    withKernel(kernel(sealed, [[".uname", `6.12-${VERSION}`]]), [
      { name: "boot/EFI/Linux/os.efi.extra.d/", type: "5" },
      { name: "boot/loader/", type: "5" },
      { name: "boot/loader/addons/", type: "5" },
      { name, content: program(sections) },
    ]);
  const ADDONS = "boot/EFI/Linux/os.efi.extra.d";

  test.each<[string, ScratchImage, RegExp]>([
    [
      "an addon that says which image starts",
      withAddon(`${ADDONS}/a.addon.efi`, [[".cmdline", `composefs=${id}`]]),
      /^Addon "\/boot\/EFI\/Linux\/os.efi.extra.d\/a.addon.efi" of the image has "composefs=/,
    ],
    [
      "one for all kernels that does",
      withAddon("boot/loader/addons/bootc-a.addon.efi", [[".cmdline", "ostree=/x"]]),
      /^Addon "\/boot\/loader\/addons\/bootc-a.addon.efi" of the image has "ostree=\/x"/,
    ],
    [
      "an addon whose quote is not closed, so that it would take in what comes next",
      withAddon(`${ADDONS}/a.addon.efi`, [[".cmdline", `x="a`]]),
      /os.efi.extra.d\/a.addon.efi" of the image has a quote that is not closed/,
    ],
    [
      "an addon that says which image starts behind a quote of the kernel's",
      withKernel(kernel(`${sealed} x="a`), [
        { name: `${ADDONS}/`, type: "5" },
        {
          name: `${ADDONS}/a.addon.efi`,
          content: program([[".cmdline", `b" composefs=${id} y="`]]),
        },
      ]),
      /^The command line in "\/boot\/EFI\/Linux\/os.efi" has a quote that is not closed/,
    ],
    [
      "an addon that is a kernel",
      withAddon(`${ADDONS}/a.addon.efi`, [[".linux", "x"]]),
      /has a kernel in it, so systemd-stub would ignore it/,
    ],
    [
      "signatures in the middle of the kernel, by the kernel's name",
      withKernel(withTail(kernel(sealed))),
      /^"\/boot\/EFI\/Linux\/os.efi" has its signatures in a place other than its end$/,
    ],
  ])("%s: what a machine would refuse, in its words", async (_, image, message) => {
    const { findings } = await verify(image);
    expect(findings).toEqual([expect.stringMatching(message)]);
  });

  test.each<[string, ScratchImage, string]>([
    [
      "a second kernel",
      withKernel(kernel(sealed), [{ name: "boot/EFI/Linux/z.EFI", content: "x" }]),
      '"/boot/EFI/Linux/z.EFI" is not used',
    ],
    [
      "a kernel whose modules are missing",
      withKernel(kernel(sealed, [[".uname", "9.9"]])),
      'the image has no "/usr/lib/modules/9.9"',
    ],
    [
      "an addon for another kernel",
      withAddon(`${ADDONS}/a.addon.efi`, [
        [".cmdline", "a"],
        [".uname", "9.9"],
      ]),
      "is for the kernel 9.9, so systemd-stub ignores it",
    ],
    [
      "an addon that is nobody's",
      withAddon("boot/loader/addons/a.addon.efi", [[".cmdline", "a"]]),
      '"/boot/loader/addons/a.addon.efi" is not installed',
    ],
  ])("%s is a warning", async (_, image, message) => {
    const { findings, warnings } = await verify(image);
    expect(findings).toEqual([]);
    expect(warnings).toContainEqual(expect.stringContaining(message));
  });

  test("programs that nobody signed are a finding where a certificate was given, else a warning", async () => {
    const image = withAddon(`${ADDONS}/a.addon.efi`, [[".cmdline", "a"]]);
    const unsigned = ["os.efi", "os.efi.extra.d/a.addon.efi"].map((name) =>
      expect.stringContaining(`"/boot/EFI/Linux/${name}" is not signed`),
    );
    expect((await verify(image, [], ["db.crt"])).findings).toEqual(unsigned);
    const { findings, warnings } = await verify(image);
    expect(findings).toEqual([]);
    expect(warnings).toEqual(expect.arrayContaining(unsigned));
  });

  test("a trust directory that its initramfs lacks", async () => {
    const { findings } = await verify(
      withKernel(kernel(null), revoked(`digest ${"1".repeat(128)}\n`)),
    );
    expect(findings).toEqual([
      '"/usr/lib/bootc/trust/revoked.d/list" is in the image, but not in the initramfs: run dracut again before sealing',
    ]);
  });

  test("a statement by its own key counts, and one for another image does not", async () => {
    const image = withKernel(kernel(null, key, Buffer.concat([INITRAMFS, own])));
    const sign = (digest: string) => {
      const statement = { digest, version: 1, expires: null } as const;
      const whole = { ...statement, algorithm: "sha512-12", format: "erofs-v1" } as const;
      return formatSignedStatement(whole, [signStatement(KEY, formatStatement(whole))]);
    };
    const good = await verify(image, [sign(id)]);
    expect(good).toMatchObject({ mode: "ephemeral", findings: [], statement: { version: 1 } });
    const bad = await verify(image, [sign("1".repeat(128))]);
    expect(bad.findings).toEqual([expect.stringContaining("statement for another one")]);
  });

  test.each<[string, Buffer, string]>([
    ["xz", Buffer.from("fd377a585a00", "hex"), "only gzip and zstd"],
    ["a broken archive", gzipSync("070701zzz".repeat(30)), "malformed"],
    [
      "one without the program",
      gzipSync(cpio("init", "x")),
      'has no "/usr/lib/bootc/prepare-root"',
    ],
  ])(
    "an initramfs that cannot be looked into, or is another one, is a warning: %s",
    async (_, initrd, message) => {
      const { findings, warnings } = await verify(withKernel(kernel(sealed, [], initrd)));
      expect(findings).toEqual([]);
      expect(warnings).toContainEqual(expect.stringContaining(message));
    },
  );
});
