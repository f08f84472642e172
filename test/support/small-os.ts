// A small OCI image that can boot, and tar archives written by tar-stream.

import { pack } from "tar-stream";
import type { TestImage } from "./oci-builder.ts";

export type Entry = readonly [
  header: Parameters<ReturnType<typeof pack>["entry"]>[0],
  content?: string | Buffer,
];

export async function makeTar(entries: readonly Entry[]): Promise<Buffer> {
  const packer = pack();
  for (const [header, content] of entries) packer.entry(header, content ?? "");
  packer.finalize();
  const parts: Buffer[] = [];
  for await (const part of packer) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Content of its vmlinuz. */
export const SMALL_KERNEL = Buffer.alloc(300_000, "kernel");
const mtime = new Date(1_700_000_000_000);
export const dir = (name: string): Entry => [{ name, type: "directory", mtime }];
export const file = (name: string, content: string | Buffer = name): Entry => [
  { name, mtime },
  content,
];

/** A small image that can boot, in three layers of different compression. */
export async function makeOs(): Promise<TestImage> {
  const base = await makeTar([
    ...[
      "boot",
      "etc",
      "run",
      "sysroot",
      "usr",
      "usr/bin",
      "usr/lib",
      "usr/lib/bootc",
      "usr/lib/bootc/kargs.d",
      "usr/lib/modules",
      "usr/lib/modules/6.12",
    ].map(dir),
    file("boot/stray"),
    file("run/stray"),
    file("etc/small"),
    file("etc/gone"),
    file("usr/bin/tool", Buffer.alloc(5000, "tool")),
    [{ name: "usr/bin/tool2", type: "link", linkname: "usr/bin/tool", mtime }],
    [{ name: "usr/bin/soft", type: "symlink", linkname: "tool", mtime }],
    file("usr/lib/os-release", 'ID=debian\nPRETTY_NAME="Debian 13"\n'),
    file("usr/lib/bootc/kargs.d/10-a.toml", 'kargs = ["console=ttyS0 quiet"]\n'),
  ]);
  const middle = await makeTar([
    file("usr/lib/modules/6.12/vmlinuz", SMALL_KERNEL),
    file("usr/lib/modules/6.12/initramfs.img", Buffer.alloc(2_500_000, "initramfs")),
    [
      {
        name: "usr/bin/cap",
        mtime,
        pax: { "SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.a": "b" },
      },
      "c",
    ],
  ]);
  const top = await makeTar([
    file("etc/.wh.gone", ""),
    file("etc/new", Buffer.alloc(65, "n")),
    file("usr/lib/bootc/kargs.d/20-b.toml", 'kargs = ["b"]\nmatch-architectures = ["nothing"]\n'),
  ]);
  return {
    tag: "v1",
    layers: [
      { tar: base },
      { tar: middle, compression: "zstd" },
      { tar: top, compression: "none" },
    ],
  };
}
