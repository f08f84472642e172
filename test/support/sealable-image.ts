// Small images that can really be sealed: a kernel of Debian's, and an initramfs that is a real archive with what
// dracut's module would have put there.

import { readFileSync } from "node:fs";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type CpioFile, writeCpio } from "../../shared/format/cpio/writer.ts";
import { ensureDebianKernel } from "../vm/debian-kernel.ts";
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
  /** Leaves the executable to an addon, by its SHA-256. */
  readonly runtimeDigest?: string;
}

const TRUST = "usr/lib/bootc/trust";
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

/** Its kernel is Debian's, so ukify and the firmware know it for one. */
export async function makeSealable(image: SealableImage): Promise<TestImage> {
  const { vmlinuz } = await ensureDebianKernel("trixie");
  const release = image.release ?? "6.12";
  const trust = Object.entries(image.trust ?? {});
  const directories = new Set(trust.map(([name]) => `${TRUST}/${name.split("/")[0]}`));
  const capability = { "SCHILY.xattr.security.capability": "cap", "SCHILY.xattr.user.a": "b" };
  const mtime = new Date(1_700_000_000_000);
  const base = await makeTar([
    ...["boot", "etc", "run", "sysroot", "usr", "usr/bin", "usr/lib", "usr/lib/bootc"].map(dir),
    dir("usr/lib/bootc/kargs.d"),
    { ...dir("usr/lib/modules") },
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
