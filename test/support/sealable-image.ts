// Small images that can really be sealed: an EFI program or a kernel of Debian's, and an initramfs that is a real archive with what
// dracut's module would have put there.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type CpioFile, writeCpio } from "../../shared/format/cpio/writer.ts";
import { ensureDebianKernel } from "../vm/debian-kernel.ts";
import { ensureToolsRoot } from "../vm/tools-root.ts";
import type { TestImage } from "./oci-builder.ts";
import { dir, type Entry, file, makeTar } from "./small-os.ts";

export interface SealableImage {
  readonly tag: string;
  /** Files of /usr/lib/bootc/trust, by their paths there. */
  readonly trust?: Readonly<Record<string, string>>;
  /** The same in the initramfs, where it differs. */
  readonly initramfsTrust?: Readonly<Record<string, string>>;
  readonly compression?: "gzip" | "zstd";
  /** Of the kernel: the directory's name. */
  readonly release?: string;
  /** More of the image. */
  readonly entries?: readonly Entry[];
  /** A kernel of Debian's instead of a small EFI program. */
  readonly realKernel?: boolean;
  /** Leaves the executable to an addon, by its SHA-256. */
  readonly runtimeDigest?: string;
}

const TRUST = "usr/lib/bootc/trust";
/** Of cap_net_bind_service, as the kernel has it (capabilities(7), version 2). */
const CAPABILITY = `\0\0\0\x02\0\x04${"\0".repeat(14)}`;
/** The image's /usr/bin/bootc. */
export const SEALABLE_PROGRAM = Buffer.alloc(300_000, "the program ");

const cpioFile = (path: string, content: string): CpioFile => ({
  path,
  mode: 0o644,
  sizeBytes: Buffer.byteLength(content),
  content: [Buffer.from(content)],
});

/** As dracut's: an early archive as it is, then the main one, compressed. */
export function makeInitramfs(image: Omit<SealableImage, "tag">): Buffer {
  const trust = Object.entries(image.initramfsTrust ?? image.trust ?? {});
  const files = [
    cpioFile("usr/lib/bootc/other", "x"),
    ...trust.map(([name, text]) => cpioFile(`${TRUST}/${name}`, text)),
    ...(image.runtimeDigest === undefined
      ? [cpioFile("usr/lib/bootc/prepare-root", "program")]
      : []),
  ];
  let main = Buffer.concat([...writeCpio(files)]);
  if (image.runtimeDigest !== undefined) {
    const target = `runtime/${image.runtimeDigest}/prepare-root`;
    const link = Buffer.concat([...writeCpio([cpioFile("usr/lib/bootc/prepare-root", target)])]);
    const at = link.indexOf("usr/lib/bootc/prepare-root") - 110 + 14;
    link.write("0000A1FF", at, "latin1");
    main = Buffer.concat([main, link]);
  }
  const packed = image.compression === "zstd" ? zstdCompressSync(main) : gzipSync(main);
  return Buffer.concat([...writeCpio([cpioFile("kernel/x86/microcode/early", "m")]), packed]);
}

/** An EFI program, which is all that ukify looks for. */
async function smallKernel(): Promise<string> {
  return join(await ensureToolsRoot(), "usr/lib/systemd/boot/efi/addonx64.efi.stub");
}

/** With an EFI program for a kernel, or a real one. */
export async function makeSealable(image: SealableImage): Promise<TestImage> {
  const vmlinuz = image.realKernel
    ? (await ensureDebianKernel("trixie")).vmlinuz
    : await smallKernel();
  const release = image.release ?? "6.12";
  const trust = Object.entries(image.trust ?? {});
  const directories = new Set(trust.map(([name]) => `${TRUST}/${name.split("/")[0]}`));
  const capability = { "SCHILY.xattr.security.capability": CAPABILITY, "SCHILY.xattr.user.a": "b" };
  const mtime = new Date(1_700_000_000_000);
  const base = await makeTar([
    ...["boot", "etc", "run", "sysroot", "usr", "usr/bin", "usr/lib", "usr/lib/bootc"].map(dir),
    dir("usr/lib/bootc/kargs.d"),
    dir("usr/lib/modules"),
    [
      {
        ...dir(`usr/lib/modules/${release}`)[0],
        mode: 0o751,
        pax: { mtime: "1700000001.25", "SCHILY.xattr.user.here": "x" },
      },
    ],
    file("boot/stray"),
    file("usr/lib/os-release", 'ID=debian\nVERSION_ID=13\nPRETTY_NAME="Debian 13"\n'),
    file("usr/lib/bootc/kargs.d/10-a.toml", 'kargs = ["console=ttyS0 quiet"]\n'),
    file("usr/bin/bootc", SEALABLE_PROGRAM),
    [
      {
        name: "usr/lib/bootc/prepare-root",
        type: "symlink",
        linkname: "../../bin/bootc",
        mode: 0o777,
        mtime,
      },
    ],
    [{ name: "usr/bin/cap", mtime, pax: capability }, "c"],
    ...(trust.length === 0 ? [] : [dir(TRUST), ...[...directories].map(dir)]),
    ...trust.map(([name, text]) => file(`${TRUST}/${name}`, text)),
    ...(image.entries ?? []),
  ]);
  const kernel = await makeTar([
    file(`usr/lib/modules/${release}/vmlinuz`, readFileSync(vmlinuz)),
    file(`usr/lib/modules/${release}/initramfs.img`, makeInitramfs(image)),
  ]);
  return {
    tag: image.tag,
    layers: [{ tar: base }, { tar: kernel, compression: "zstd" }],
    annotations: { "org.opencontainers.image.version": "1", other: "kept" },
  };
}
